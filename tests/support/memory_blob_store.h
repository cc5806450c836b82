#ifndef SCONCE_TESTS_SUPPORT_MEMORY_BLOB_STORE_H_
#define SCONCE_TESTS_SUPPORT_MEMORY_BLOB_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "storage/blob/blob_store.h"

namespace sconce::blob {

// A BlobStore that touches no disk: a sealed blob is a memfd, so that fd() and mapping work as with a file. Durable
// only as long as it lives. It runs the same contract suite as LocalBlobStore. Thread-safe; must outlive its writers.
class MemoryBlobStore final : public BlobStore {
 public:
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(uint64_t project_uid) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> CreateInReserve(uint64_t project_uid) override;  // the same: no reserve
  absl::StatusOr<std::unique_ptr<BlobWriter>> CreateResumable(uint64_t project_uid) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Resume(const BlobId& id, int64_t end) override;
  absl::StatusOr<std::shared_ptr<const Blob>> Open(const BlobId& id) override;
  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenStored(const BlobId& id) override;
  absl::Status Remove(const BlobId& id) override;
  absl::StatusOr<std::vector<BlobId>> List() override;
  // Begins a new sort: "restarts" of a test share one store.
  absl::Status DropUnsealed(const std::function<bool(const BlobId&)>& resumable) override;
  absl::StatusOr<SortStep> SortSealed(const KnownBlobs& known, int64_t at_most) override;  // drops the unknown
  BlobStats GetStats() const override;

  // Flips one bit of a sealed blob, as a bad disk would.
  void CorruptForTest(const BlobId& id, int64_t offset);
  // From now on a write that would leave the store with more than this many bytes is DISK_FULL.
  void SetCapacityForTest(int64_t bytes);

 private:
  friend class MemoryBlobWriter;

  absl::Status Reserve(int64_t bytes);
  void Release(int64_t bytes);

  mutable Mutex mu_;
  std::map<BlobId, std::shared_ptr<const Blob>> sealed_ ABSL_GUARDED_BY(mu_);
  std::map<BlobId, std::string> unsealed_ ABSL_GUARDED_BY(mu_);  // resumable ones, as of their last Sync
  std::vector<BlobId> to_sort_ ABSL_GUARDED_BY(mu_);             // in falling order
  int64_t reserved_bytes_ ABSL_GUARDED_BY(mu_) = 0;              // by open writers and sealed blobs
  int64_t capacity_bytes_ ABSL_GUARDED_BY(mu_) = INT64_MAX;
};

}  // namespace sconce::blob

#endif  // SCONCE_TESTS_SUPPORT_MEMORY_BLOB_STORE_H_
