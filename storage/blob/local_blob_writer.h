#ifndef SCONCE_STORAGE_BLOB_LOCAL_BLOB_WRITER_H_
#define SCONCE_STORAGE_BLOB_LOCAL_BLOB_WRITER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "storage/blob/blob_store.h"
#include "storage/blob/local_blob_store.h"

namespace sconce::blob {

// Steps 1 to 3 of the commit protocol (local_blob_store.cc) for one blob. Writes only whole aligned pages, as O_DIRECT
// wants: a mappable chunk straight from the caller's buffer, small ones and the footer through a pack region. Space in
// the file is given out under the lock; the writing itself happens outside it, so that several threads write at once.
class LocalBlobWriter final : public BlobWriter {
 public:
  // Where the writer starts.
  struct Origin {
    bool resumable = false;  // the file stays when the writer is destroyed
    int64_t end = 0;         // of what is in the file already; a multiple of 4096
  };

  LocalBlobWriter(LocalBlobStore& store, BlobId id, int64_t min_free_bytes, const Origin& origin,
                  std::unique_ptr<WritableFile> file)
      : store_(store),
        id_(id),
        min_free_bytes_(min_free_bytes),
        resumable_(origin.resumable),
        file_(std::move(file)),
        end_(origin.end) {}
  ~LocalBlobWriter() override;

  const BlobId& id() const override { return id_; }
  absl::StatusOr<int64_t> Append(AlignedBuffer& buffer, int64_t size_bytes, bool mappable) override;
  absl::StatusOr<int64_t> AppendPacked(ByteSpan data) override;
  absl::Status Sync() override;
  absl::StatusOr<int64_t> FooterOffset() override;
  absl::Status Seal(ByteSpan footer) override;

 private:
  // A stretch of the file that is filled in memory, then written at once.
  struct PackRegion {
    PackRegion(int64_t file_offset, int64_t reserved) : offset(file_offset), reserved_bytes(reserved) {}
    int64_t offset;          // in the file; a multiple of 4096
    int64_t reserved_bytes;  // up to where it may be filled
    int64_t used_bytes = 0;
    int64_t flushed_bytes = 0;  // of those, what is in the file; a multiple of 4096
    AlignedBuffer buffer{kPackBytes};
  };
  static constexpr int64_t kPackBytes = int64_t{1} << 20;
  // Regions start small and double, so that a blob with few small chunks has no big hole.
  static constexpr int64_t kFirstPackBytes = int64_t{64} << 10;

  absl::Status CheckOpen() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Write(int64_t offset, ByteSpan pages);
  // Writes what the region holds and is not in the file yet, zero-padded to whole pages.
  absl::Status Flush(PackRegion& region);
  // Adds to the end of the blob through tail_, writing whenever it is full.
  absl::Status WriteTail(ByteSpan bytes);
  absl::Status WriteFooter(ByteSpan footer);
  // Remembers the first failure: after one, the file may hold anything and is only good to be dropped.
  absl::Status Remember(absl::Status status);

  LocalBlobStore& store_;  // outlives this
  const BlobId id_;
  const int64_t min_free_bytes_;  // kept free on the disk by this blob's writes
  const bool resumable_;
  const std::unique_ptr<WritableFile> file_;
  std::atomic<int64_t> written_bytes_{0};  // whole pages, each once: what a file written in one go takes on the disk
  bool published_ = false;                 // by Seal
  bool named_ = false;                     // by Sync: the file's name is durable
  std::unique_ptr<PackRegion> tail_;       // by FooterOffset and Seal

  Mutex mu_;
  CondVar flushed_;
  int flushing_ ABSL_GUARDED_BY(mu_) = 0;  // full regions that are on their way into the file
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  int64_t end_ ABSL_GUARDED_BY(mu_);  // first byte of the file not given out; a multiple of 4096
  int64_t next_pack_bytes_ ABSL_GUARDED_BY(mu_) = kFirstPackBytes;
  std::unique_ptr<PackRegion> pack_ ABSL_GUARDED_BY(mu_);      // the region being filled
  std::optional<int64_t> footer_offset_ ABSL_GUARDED_BY(mu_);  // set: no more chunks
};

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_LOCAL_BLOB_WRITER_H_
