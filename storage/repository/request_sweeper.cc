#include "storage/repository/request_sweeper.h"

#include <string>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/request_ids.h"

namespace sconce::repository {

absl::Status RequestSweeper::Run(const StopSignal& stop, CollectReport&) {
  const int64_t now = store_.NowNanos();
  if (now < next_ns_) return absl::OkStatus();
  catalog::ChangeSet change;
  const auto apply = [&]() -> absl::Status {
    const absl::Status applied = store_.catalog->Apply(change).status();
    change = {};
    // A request id used again at this moment: next time.
    return catalog::FailedConditionKey(applied) ? absl::OkStatus() : applied;
  };
  const auto look = [&](const std::string& key, const std::string& value) -> absl::Status {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::RequestRecord>(value));
    if (now - record.time_ns() < absl::ToInt64Nanoseconds(kRequestIdLifetime)) return absl::OkStatus();
    change.conditions.push_back({key, value});
    change.deletes.push_back(key);
    return change.deletes.size() < kStep ? absl::OkStatus() : apply();
  };
  SCONCE_RETURN_IF_ERROR(VisitInSteps(*store_.catalog, catalog::RequestIdPrefix(), stop, look));
  if (!change.deletes.empty()) SCONCE_RETURN_IF_ERROR(apply());
  next_ns_ = now + absl::ToInt64Nanoseconds(absl::Hours(1));
  return absl::OkStatus();
}

}  // namespace sconce::repository
