#ifndef SCONCE_STORAGE_REPOSITORY_DELETION_RECORDER_H_
#define SCONCE_STORAGE_REPOSITORY_DELETION_RECORDER_H_

#include "absl/status/status.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that records every run and object the catalog has a tombstone of in deletions.log (deletion_log.h), many
// with one sync. The stages behind it record once more what they drop; that costs nothing but for a tombstone that came
// since.
class DeletionRecorder {
 public:
  explicit DeletionRecorder(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  Store& store_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_DELETION_RECORDER_H_
