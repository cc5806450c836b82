#ifndef SCONCE_STORAGE_BLOB_SEALED_SORT_H_
#define SCONCE_STORAGE_BLOB_SEALED_SORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "storage/blob/blob_path.h"
#include "storage/blob/blob_store.h"

namespace sconce::blob {

// The walk over the sealed blobs that an earlier process left, in the order of their ids, and what of it is behind. The
// protocol is at the top of sealed_sort.cc. In memory: the names of one shard directory (a 256th of a project's blobs),
// and the ids of the blobs made since the start, both until the walk ends. Made, Looked and the functions that one
// walker calls (Next, Advance) may run at once.
class SealedSort {
 public:
  // Both outlive this.
  SealedSort(const BlobPaths& paths, FileSystem& fs) : paths_(paths), fs_(fs) {}

  // This process is about to make or to go on with the blob. Requires: it has no sealed file yet.
  void Made(const BlobId& id);
  // Whether the walk does not come to the blob any more: it was made by this process, or it is behind.
  bool Looked(const BlobId& id) const;

  // The next `at_most` blobs or fewer that the walk is to look at; the same again until Advance. Empty when there are
  // no more: the walk has ended. IO_ERROR.
  absl::StatusOr<std::vector<BlobId>> Next(int64_t at_most);
  // The blobs that Next gave are behind.
  void Advance();
  bool ended() const;

 private:
  // Reads the names of the next directory that has any; false when there is none left.
  absl::StatusOr<bool> LoadShard();

  const BlobPaths& paths_;
  FileSystem& fs_;

  // Of the walker alone.
  bool projects_read_ = false;
  std::vector<uint64_t> projects_;   // still to be read, in falling order
  uint64_t project_uid_ = 0;         // the one being read
  std::vector<std::string> shards_;  // of it, still to be read, in falling order
  std::vector<BlobId> names_;        // of one shard, still to be looked at, in rising order from `next_` on
  size_t next_ = 0, taken_ = 0;      // [next_, taken_) is what Next gave

  mutable Mutex mu_;
  absl::flat_hash_set<BlobId> made_ ABSL_GUARDED_BY(mu_);
  std::optional<BlobId> behind_ ABSL_GUARDED_BY(mu_);  // the last blob that is
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_SEALED_SORT_H_
