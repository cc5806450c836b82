#ifndef SCONCE_STORAGE_REPOSITORY_DELETION_TRIMMER_H_
#define SCONCE_STORAGE_REPOSITORY_DELETION_TRIMMER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that keeps deletions.log short. Once a day, and when the log has doubled, it drops the records nobody needs
// any more, if they are half of it. Those are older than three days, and of objects of which no blob has a footer. The
// last record of each living run stays, and one with the highest uid, so that a rebuilt catalog gives no number twice.
class DeletionTrimmer {
 public:
  explicit DeletionTrimmer(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  Store& store_;
  int64_t next_at_records_ = 0;  // or at this time, whatever comes first
  int64_t next_ns_ = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_DELETION_TRIMMER_H_
