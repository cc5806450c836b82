#include "storage/repository/run_burial.h"

#include <string>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/deletion_log.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/tombstones.h"

namespace sconce::repository {

absl::Status RunBurial::Run(const StopSignal& stop, CollectReport&) {
  const auto bury = [&](const std::string& key, const std::string& value) -> absl::Status {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::RunTombstoneRecord>(value));
    const uint64_t run_uid = catalog::ParseRunTombstoneKey(key).value_or(0);
    for (bool gone = false; !gone && !stop.Requested();) {
      SCONCE_ASSIGN_OR_RETURN(gone, BurySomeOf(run_uid, record.project_uid()));
    }
    return absl::OkStatus();
  };
  return VisitInSteps(*store_.catalog, catalog::RunTombstonePrefix(), stop, bury);
}

absl::StatusOr<bool> RunBurial::BurySomeOf(uint64_t run_uid, uint64_t project_uid) {
  const Deletion deletion = DeletionOfRun(project_uid, run_uid, store_.NowNanos());
  SCONCE_RETURN_IF_ERROR(store_.deletions->Record({deletion}));  // before anything of it goes
  catalog::ChangeSet change;
  SCONCE_ASSIGN_OR_RETURN(const auto versions, FirstOf(*store_.catalog, catalog::CheckpointPrefix(run_uid), kStep));
  for (const auto& [key, value] : versions) {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::CheckpointRecord>(value));
    change.conditions.push_back({key, value});
    BuryCheckpoint(project_uid, run_uid, record, change);
  }
  SCONCE_ASSIGN_OR_RETURN(const auto modules, FirstOf(*store_.catalog, catalog::ModulePrefix(run_uid), kStep));
  for (const auto& [key, value] : modules) {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ModuleRecord>(value));
    change.conditions.push_back({key, value});
    BuryModule(project_uid, run_uid, record, change);
  }
  SCONCE_ASSIGN_OR_RETURN(const auto aliases, FirstOf(*store_.catalog, catalog::AliasPrefix(run_uid), kStep));
  for (const auto& alias : aliases) change.deletes.push_back(alias.first);
  const bool last = versions.size() < kStep && modules.size() < kStep && aliases.size() < kStep;
  if (last) change.deletes.push_back(catalog::RunTombstoneKey(run_uid));
  const absl::Status applied = store_.catalog->Apply(change).status();
  if (catalog::FailedConditionKey(applied)) return false;  // quarantined at this moment: once more
  SCONCE_RETURN_IF_ERROR(applied);
  if (last) store_.deletions->Forget(deletion);
  return last;
}

}  // namespace sconce::repository
