#include "storage/repository/retention_pass.h"

#include <set>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/retirement.h"

namespace sconce::repository {

absl::Status RetentionPass::LookAtOldRuns(const StopSignal& stop) {
  const std::string done = catalog::RetentionKey(INT64_MAX, 0);
  SCONCE_ASSIGN_OR_RETURN(const auto found, store_.catalog->Get(done));
  if (!found) {
    catalog::ChangeSet change;
    const auto look = [&](const std::string&, const std::string& value) -> absl::Status {
      SCONCE_ASSIGN_OR_RETURN(const auto run, ParseRecord<records::RunRecord>(value));
      LookAtRun(run, store_.NowNanos(), change);
      if (change.puts.size() < kStep) return absl::OkStatus();
      const absl::Status applied = store_.catalog->Apply(change).status();
      change.puts.clear();
      return applied;
    };
    SCONCE_RETURN_IF_ERROR(VisitInSteps(*store_.catalog, catalog::RunPrefix(), stop, look));
    if (stop.Requested()) return absl::OkStatus();
    change.puts.emplace_back(done, "");
    SCONCE_RETURN_IF_ERROR(store_.catalog->Apply(change).status());
  }
  looked_at_old_runs_ = true;
  return absl::OkStatus();
}

absl::Status RetentionPass::Run(const StopSignal& stop, CollectReport& report) {
  if (!store_.retention_started) return absl::OkStatus();
  if (!looked_at_old_runs_) SCONCE_RETURN_IF_ERROR(LookAtOldRuns(stop));
  const int64_t now = store_.NowNanos();
  const std::string end = catalog::RetentionKey(now, UINT64_MAX);
  std::string begin = catalog::RetentionPrefix();
  std::set<uint64_t> seen;  // runs of this pass: at most one look each, whatever else it is due for
  for (bool more = true; more && !stop.Requested();) {
    std::vector<std::string> keys;
    SCONCE_RETURN_IF_ERROR(store_.catalog->Scan(begin, end, false, [&](absl::string_view key, absl::string_view) {
      keys.emplace_back(key);
      return keys.size() < kStep;
    }));
    more = keys.size() == kStep;
    catalog::ChangeSet change;
    for (const std::string& key : keys) {
      const auto fields = catalog::ParseRetentionKey(key);
      if (!fields) return MakeError(Reason::CATALOG_CORRUPT, "a retention key of the catalog does not parse");
      if (seen.insert(fields->run_uid).second) {
        SCONCE_ASSIGN_OR_RETURN(const int64_t retired, RetireRun(store_, fields->run_uid, stop));
        report.retired += retired;
        if (retired > 0) {
          Log(Severity::kInfo, "retired", {{"run_uid", static_cast<int64_t>(fields->run_uid)}, {"versions", retired}});
        }
      }
      if (stop.Requested()) return absl::OkStatus();
      // One of this very moment may have been written after the look began: it stays for another look.
      if (fields->due_ns < now) change.deletes.push_back(key);
    }
    if (!change.deletes.empty()) SCONCE_RETURN_IF_ERROR(store_.catalog->Apply(change).status());
    if (more) begin = keys.back() + '\0';
  }
  return absl::OkStatus();
}

}  // namespace sconce::repository
