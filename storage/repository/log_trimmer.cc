#include "storage/repository/log_trimmer.h"

#include <algorithm>
#include <string>

#include "absl/time/time.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/change_log.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {

absl::Status LogTrimmer::Run(const StopSignal& stop, CollectReport&) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t newest, NewestRevision(*store_.catalog));
  const int64_t kept = std::max<int64_t>(1, store_.options.change_log_entries);
  if (newest <= kept) return absl::OkStatus();
  const std::string end = catalog::LogKey(newest - kept + 1);  // from here on there are `kept`
  const int64_t now = store_.NowNanos();
  const int64_t age_ns = absl::ToInt64Nanoseconds(store_.options.change_log_age);
  for (bool more = true; more && !stop.Requested();) {
    catalog::ChangeSet change;
    absl::Status parsed;
    SCONCE_RETURN_IF_ERROR(
        store_.catalog->Scan(catalog::LogPrefix(), end, false, [&](absl::string_view key, absl::string_view value) {
          const auto entry = ParseRecord<records::ChangeRecord>(value);
          parsed = entry.status();
          if (!parsed.ok() || now - entry->time_ns() < age_ns) return false;
          change.deletes.emplace_back(key);
          return change.deletes.size() < kStep;
        }));
    SCONCE_RETURN_IF_ERROR(parsed);
    more = change.deletes.size() == kStep;
    if (!change.deletes.empty()) SCONCE_RETURN_IF_ERROR(store_.catalog->Apply(change).status());
  }
  return absl::OkStatus();
}

}  // namespace sconce::repository
