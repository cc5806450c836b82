#ifndef SCONCE_STORAGE_BLOB_LOCAL_BLOB_STORE_H_
#define SCONCE_STORAGE_BLOB_LOCAL_BLOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "storage/blob/blob_path.h"
#include "storage/blob/blob_store.h"
#include "storage/blob/sealed_sort.h"

namespace sconce::blob {

struct LocalBlobStoreOptions {
  std::string data_dir;
  FileSystem* file_system = &PosixFileSystem();  // borrowed, as is the clock: both outlive the store
  const Clock* clock = nullptr;                  // null: the system's
  // Space kept free on the disk: a write that would leave less fails with DISK_FULL, so that there is always room to
  // delete and compact.
  int64_t min_free_bytes = 0;
};

// Blobs as files of a local disk (docs/formats/blob.md). One process at a time may have a data directory open; the
// repository holds the lock. Thread-safe; must outlive the writers it made, not the blobs it opened.
class LocalBlobStore final : public BlobStore {
 public:
  // Makes the directories it needs below `data_dir`. Call DropUnsealed next. IO_ERROR, DISK_FULL.
  static absl::StatusOr<std::unique_ptr<LocalBlobStore>> Open(const LocalBlobStoreOptions& options);

  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(uint64_t project_uid) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> CreateInReserve(uint64_t project_uid) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> CreateResumable(uint64_t project_uid) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Resume(const BlobId& id, int64_t end) override;
  absl::StatusOr<std::shared_ptr<const Blob>> Open(const BlobId& id) override;
  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenStored(const BlobId& id) override;
  absl::Status Remove(const BlobId& id) override;
  absl::StatusOr<std::vector<BlobId>> List() override;
  absl::Status DropUnsealed(const std::function<bool(const BlobId&)>& resumable) override;
  absl::StatusOr<SortStep> SortSealed(const KnownBlobs& known, int64_t at_most) override;
  BlobStats GetStats() const override;

 private:
  friend class LocalBlobWriter;

  explicit LocalBlobStore(const LocalBlobStoreOptions& options);

  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(uint64_t project_uid, int64_t min_free_bytes, bool resumable);
  // DISK_FULL when fewer than min_free_bytes would be left after writing `size_bytes`.
  absl::Status CheckRoom(int64_t size_bytes, int64_t min_free_bytes) const;
  // Steps 4 and 5 of the commit protocol.
  absl::Status Publish(const BlobId& id, int64_t allocated_bytes, bool resumable);
  absl::Status MakeShardDurable(const BlobId& id);
  absl::Status DropOldOrphans();
  absl::Status MoveToOrphans(absl::Span<const BlobId> unknown);
  // Adds those that are still there to the stats, and lets the sort advance.
  absl::Status CountSorted(absl::Span<const BlobId> known);

  const BlobPaths paths_;
  FileSystem* const fs_;
  const Clock* const clock_;
  const int64_t min_free_bytes_;

  SealedSort sort_;
  bool dropped_old_orphans_ = false;  // of the sort

  // Held over an unlink and over a step of the count, so that a blob removed twice at once, or while it is being
  // counted, is counted once; taken before mu_.
  Mutex remove_mu_;
  mutable Mutex mu_;
  BlobStats stats_ ABSL_GUARDED_BY(mu_);
  // Blobs that someone may hold. Expired entries are swept when the map has doubled.
  absl::flat_hash_map<BlobId, std::weak_ptr<const Blob>> open_ ABSL_GUARDED_BY(mu_);
  size_t sweep_at_ ABSL_GUARDED_BY(mu_) = 64;
  int64_t removals_ ABSL_GUARDED_BY(mu_) = 0;  // an Open that overlaps one does not put its blob into open_
  absl::flat_hash_set<std::string> durable_dirs_ ABSL_GUARDED_BY(mu_);  // whose names are known to be synced
};

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_LOCAL_BLOB_STORE_H_
