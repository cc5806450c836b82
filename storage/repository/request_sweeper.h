#ifndef SCONCE_STORAGE_REPOSITORY_REQUEST_SWEEPER_H_
#define SCONCE_STORAGE_REPOSITORY_REQUEST_SWEEPER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that drops request ids older than their lifetime. Looks at most once an hour.
class RequestSweeper {
 public:
  explicit RequestSweeper(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  Store& store_;
  int64_t next_ns_ = 0;  // of the pass in progress
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_REQUEST_SWEEPER_H_
