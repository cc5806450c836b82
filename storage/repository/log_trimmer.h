#ifndef SCONCE_STORAGE_REPOSITORY_LOG_TRIMMER_H_
#define SCONCE_STORAGE_REPOSITORY_LOG_TRIMMER_H_

#include "absl/status/status.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that drops the oldest entries of the change log: those that are neither among the newest
// RepositoryOptions::change_log_entries nor younger than change_log_age. The newest entry always stays: it is the
// store's revision. Looks at one entry when there is nothing to do.
class LogTrimmer {
 public:
  explicit LogTrimmer(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  Store& store_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_LOG_TRIMMER_H_
