#ifndef SCONCE_STORAGE_REPOSITORY_RETENTION_PASS_H_
#define SCONCE_STORAGE_REPOSITORY_RETENTION_PASS_H_

#include "absl/status/status.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that deletes what retention and expire times say, in the runs whose time has come (retirement.h): it reads
// the keys that are due and nothing else, however many versions there are. Does nothing before
// Repository::StartRetention.
class RetentionPass {
 public:
  explicit RetentionPass(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  // Once in the life of a store that an older release made: gives every run its first key.
  absl::Status LookAtOldRuns(const StopSignal& stop);

  Store& store_;
  bool looked_at_old_runs_ = false;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_RETENTION_PASS_H_
