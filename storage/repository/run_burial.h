#ifndef SCONCE_STORAGE_REPOSITORY_RUN_BURIAL_H_
#define SCONCE_STORAGE_REPOSITORY_RUN_BURIAL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The first stage of a pass: what was in a deleted run becomes tombstones, kStep objects a batch. The run's own
// tombstone goes with the last of them.
class RunBurial {
 public:
  explicit RunBurial(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  // True when nothing is left of the run.
  absl::StatusOr<bool> BurySomeOf(uint64_t run_uid, uint64_t project_uid);

  Store& store_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_RUN_BURIAL_H_
