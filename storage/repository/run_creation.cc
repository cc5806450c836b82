#include "storage/repository/run_creation.h"

#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"

namespace sconce::repository {
namespace {

// The run as stored, or a hidden new one put into the batch.
absl::StatusOr<records::RunRecord> FindOrMakeHidden(Store& store, const RunName& name, uint64_t project_uid,
                                                    bool create_run, catalog::ChangeSet& change) {
  SCONCE_ASSIGN_OR_RETURN(auto run, FindAnyRun(*store.catalog, name));
  if ((!run || run->record.hidden()) && !create_run) return RunNotFound(name);
  if (run) {
    change.conditions.push_back(run->Unchanged());
    return std::move(run->record);
  }
  SCONCE_ASSIGN_OR_RETURN(const uint64_t uid, AllocateUids(*store.catalog, 1, change));
  records::RunRecord made = NewRun(name, project_uid, uid, store.NowNanos());
  made.set_hidden(true);
  change.conditions.push_back({catalog::RunNameKey(project_uid, name.run), std::nullopt});
  return made;
}

}  // namespace

absl::StatusOr<uint64_t> EnsureProject(Store& store, const std::string& project) {
  return RetryOnConflict([&]() -> absl::StatusOr<uint64_t> {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<uint64_t> found, FindProject(*store.catalog, project));
    if (found) return *found;
    catalog::ChangeSet change;
    SCONCE_ASSIGN_OR_RETURN(const uint64_t uid, AllocateUids(*store.catalog, 1, change));
    records::ProjectRecord record;
    record.set_uid(uid);
    change.conditions.push_back({catalog::ProjectKey(project), std::nullopt});
    change.puts.emplace_back(catalog::ProjectKey(project), record.SerializeAsString());
    SCONCE_RETURN_IF_ERROR(store.catalog->Apply(change).status());
    return uid;
  });
}

records::RunRecord NewRun(const RunName& name, uint64_t project_uid, uint64_t uid, int64_t now_ns) {
  records::RunRecord run;
  run.set_uid(uid);
  run.set_project_uid(project_uid);
  run.set_project(name.project);
  run.set_run(name.run);
  SetSettings({}, BestRule(), RetentionRule(), *run.mutable_settings());
  run.set_settings_generation(1);
  run.set_create_time_ns(now_ns);
  run.set_update_time_ns(now_ns);
  run.set_next_version(1);
  return run;
}

void PutRun(const records::RunRecord& run, catalog::ChangeSet& change) {
  records::RunNameRecord name;
  name.set_run_uid(run.uid());
  change.puts.emplace_back(catalog::RunNameKey(run.project_uid(), run.run()), name.SerializeAsString());
  change.puts.emplace_back(catalog::RunKey(run.uid()), run.SerializeAsString());
}

records::RunRecord Touched(const records::RunRecord& run, int64_t now_ns) {
  records::RunRecord touched = run;
  touched.set_hidden(false);
  touched.set_generation(run.generation() + 1);
  touched.set_update_time_ns(now_ns);
  return touched;
}

absl::StatusOr<Reservation> ReserveVersion(Store& store, const RunName& name, uint64_t project_uid, bool create_run) {
  return RetryOnConflict([&]() -> absl::StatusOr<Reservation> {
    catalog::ChangeSet change;
    SCONCE_ASSIGN_OR_RETURN(records::RunRecord run, FindOrMakeHidden(store, name, project_uid, create_run, change));
    const auto version = static_cast<uint64_t>(run.next_version());
    run.set_next_version(run.next_version() + 1);
    PutRun(run, change);
    SCONCE_RETURN_IF_ERROR(store.catalog->Apply(change).status());
    return Reservation{run.uid(), version};
  });
}

absl::StatusOr<uint64_t> EnsureRun(Store& store, const RunName& name, uint64_t project_uid, bool create_run) {
  return RetryOnConflict([&]() -> absl::StatusOr<uint64_t> {
    catalog::ChangeSet change;
    SCONCE_ASSIGN_OR_RETURN(const records::RunRecord run,
                            FindOrMakeHidden(store, name, project_uid, create_run, change));
    if (run.hidden()) {
      PutRun(run, change);
      SCONCE_RETURN_IF_ERROR(store.catalog->Apply(change).status());
    }
    return run.uid();
  });
}

absl::StatusOr<Reservation> ReserveModule(Store& store, const RunName& name, uint64_t project_uid, bool create_run) {
  SCONCE_ASSIGN_OR_RETURN(const uint64_t run_uid, EnsureRun(store, name, project_uid, create_run));
  return RetryOnConflict([&]() -> absl::StatusOr<Reservation> {
    catalog::ChangeSet change;
    SCONCE_ASSIGN_OR_RETURN(const uint64_t uid, AllocateUids(*store.catalog, 1, change));
    SCONCE_RETURN_IF_ERROR(store.catalog->Apply(change).status());
    return Reservation{run_uid, uid};
  });
}

}  // namespace sconce::repository
