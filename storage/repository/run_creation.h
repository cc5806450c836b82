#ifndef SCONCE_STORAGE_REPOSITORY_RUN_CREATION_H_
#define SCONCE_STORAGE_REPOSITORY_RUN_CREATION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "storage/repository/lookup.h"
#include "storage/repository/store.h"

// How projects and runs come to be, and how a push gets its number.
namespace sconce::repository {

// The project's uid; the project is made when there is none. A project without runs shows nowhere.
absl::StatusOr<uint64_t> EnsureProject(Store& store, const std::string& project);

// A new run's record with `uid`, to be stored under RunKey(uid) with its name under RunNameKey.
records::RunRecord NewRun(const RunName& name, uint64_t project_uid, uint64_t uid, int64_t now_ns);
void PutRun(const records::RunRecord& run, catalog::ChangeSet& change);

// The run with one change more and visible: every batch about a run stores this under the condition that the run is
// unchanged.
records::RunRecord Touched(const records::RunRecord& run, int64_t now_ns);

// The uid of the run, which is made, hidden, when there is none and `create_run`; else RUN_NOT_FOUND.
absl::StatusOr<uint64_t> EnsureRun(Store& store, const RunName& name, uint64_t project_uid, bool create_run);

// What a push is about to become: durable before the footer that carries it is sealed, so that no number is ever used
// twice. If the push then fails, the number is a gap, and a run made for it stays hidden.
struct Reservation {
  uint64_t run_uid = 0;
  uint64_t number = 0;  // the version, or the module's uid
};
// RUN_NOT_FOUND for an unknown run unless `create_run`.
absl::StatusOr<Reservation> ReserveVersion(Store& store, const RunName& name, uint64_t project_uid, bool create_run);
absl::StatusOr<Reservation> ReserveModule(Store& store, const RunName& name, uint64_t project_uid, bool create_run);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_RUN_CREATION_H_
