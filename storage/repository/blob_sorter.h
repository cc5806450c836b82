#ifndef SCONCE_STORAGE_REPOSITORY_BLOB_SORTER_H_
#define SCONCE_STORAGE_REPOSITORY_BLOB_SORTER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that looks, once after a start, at the blobs that an earlier process left: those the catalog knows are
// counted, the others go to orphans/ (storage/blob/sealed_sort.cc has the protocol). Known is what has a blob record
// when it is asked about, and what an upload had when the store was opened: should that upload end meanwhile, the
// UploadReaper takes its files.
class BlobSorter {
 public:
  explicit BlobSorter(Store& store) : store_(store) {}

  // Ends early also when `pace` says so, and goes on with the next run; at least one step is taken by each. After a
  // step it waits as long as that step took, so that it takes half of one core and of the disk's time at most.
  absl::Status Run(const StopSignal& stop, const Pace& pace);
  // All have been looked at: from now on the blob store's stats are those of all blobs.
  bool ended() const { return ended_; }

 private:
  absl::StatusOr<std::vector<bool>> AreKnown(absl::Span<const blob::BlobId> blobs) const;

  Store& store_;
  bool ended_ = false;
  int64_t moved_ = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BLOB_SORTER_H_
