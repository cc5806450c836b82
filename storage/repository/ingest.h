#ifndef SCONCE_STORAGE_REPOSITORY_INGEST_H_
#define SCONCE_STORAGE_REPOSITORY_INGEST_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "base/thread_pool.h"
#include "storage/blob/aligned_buffer.h"
#include "storage/blob/blob_store.h"
#include "storage/format/manifest.h"
#include "storage/repository/pin_table.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The threads and the memory that all pushes share. Thread-safe; outlives every Ingest.
//
// A push fills one buffer at a time, its own, however slowly its bytes come. A full one goes to the pool, which takes
// at most `buffers` at once; only that hand-over waits, and what it waits for (hashing, the disk) never waits for a
// push in turn. So pushes cannot block each other for ever, and memory stays below (buffers + max_pushes) * 4 MiB.
class IngestPool {
 public:
  // A place among the pushes in progress.
  class Slot {
   public:
    Slot(IngestPool& pool, std::function<void()> ended) : pool_(pool), ended_(std::move(ended)) {}
    ~Slot() {
      --pool_.pushes_;
      ended_();
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

   private:
    IngestPool& pool_;
    const std::function<void()> ended_;
  };

  IngestPool(int threads, int buffers, int max_pushes);

  // SERVER_OVERLOADED beyond max_pushes. The push is in progress until the slot dies, and then calls `ended`.
  absl::StatusOr<std::unique_ptr<Slot>> BeginPush(std::function<void()> ended);

  // Never waits for another push: from the free ones, else new.
  std::unique_ptr<blob::AlignedBuffer> TakeBuffer();
  void GiveBack(std::unique_ptr<blob::AlignedBuffer> buffer);

  // Waits while as much as the pool takes is in work.
  void Submit(ThreadPool::Task task) { threads_.Submit(std::move(task)); }

 private:
  const size_t max_free_;
  const int max_pushes_;
  std::atomic<int> pushes_{0};
  Mutex mu_;
  std::vector<std::unique_ptr<blob::AlignedBuffer>> free_ ABSL_GUARDED_BY(mu_);
  ThreadPool threads_;  // last: its threads use the rest
};

// Where a chunk of a push went.
struct PlacedChunk {
  Fingerprint xxh3;
  int64_t size_bytes = 0;
  bool shared = false;  // stored before: nothing was written
  int64_t offset = 0;   // in this push's blob, unless shared
};

// The bytes of one push on their way into its blob: cut into chunks, hashed, looked up in the project's chunks, written
// when they are new. Write and Finish belong to one thread; the work happens on the pool.
class Ingest {
 public:
  // `manifest` is valid. Storages that come with chunk digests must turn out to have them (DIGEST_MISMATCH).
  Ingest(Store& store, IngestPool& pool, uint64_t project_uid, std::unique_ptr<blob::BlobWriter> writer,
         format::Manifest manifest);
  ~Ingest();  // waits for what is in work; without a Seal of the writer nothing stays
  Ingest(const Ingest&) = delete;
  Ingest& operator=(const Ingest&) = delete;

  // OFFSET_OUT_OF_RANGE; errors of earlier bytes (DISK_FULL, IO_ERROR, DIGEST_MISMATCH), after which nothing works.
  absl::Status Write(ByteSpan bytes);
  // UPLOAD_INCOMPLETE before the last byte. After OK every chunk is in its place and manifest() has all digests.
  absl::Status Finish();

  int64_t received_bytes() const { return received_bytes_; }
  int64_t expected_bytes() const { return expected_bytes_; }

  // After Finish.
  format::Manifest& manifest() { return manifest_; }
  const absl::flat_hash_map<Digest, PlacedChunk>& chunks() const { return chunks_; }
  int64_t stored_bytes() const { return stored_bytes_; }
  int64_t deduplicated_bytes() const { return deduplicated_bytes_; }
  blob::BlobWriter& writer() { return *writer_; }

 private:
  // A chunk within the bytes of one task.
  struct Piece {
    format::StorageIndex storage = 0;
    uint32_t chunk = 0;
    int64_t begin = 0;  // in the task's bytes
    int64_t size_bytes = 0;
    Digest digest;  // from here on set by Process
    Fingerprint xxh3;
    bool first = false;  // of this content in this push
  };

  absl::Status FirstError();
  void WriteSmall(const format::Storage& storage, ByteSpan& bytes);
  void WriteLarge(const format::Storage& storage, ByteSpan& bytes);
  void SubmitSmall();
  void SubmitLarge(int64_t size_bytes);
  void Submit(absl::AnyInvocable<absl::Status()> work);
  void NextStorage();

  absl::Status Process(std::vector<Piece>& pieces, ByteSpan bytes, blob::AlignedBuffer* buffer);
  absl::Status RecordDigests(std::vector<Piece>& pieces, ByteSpan bytes);
  absl::Status Place(const Piece& piece, ByteSpan bytes, blob::AlignedBuffer* buffer, bool stored);

  Store& store_;
  IngestPool& pool_;
  const uint64_t project_uid_;
  const std::unique_ptr<blob::BlobWriter> writer_;
  format::Manifest manifest_;   // each chunk is set by one task
  std::vector<bool> claimed_;   // by storage: whether it came with digests
  int64_t expected_bytes_ = 0;  // constant
  PinSet pins_;

  // Of the writing thread.
  format::StorageIndex storage_ = 0;  // where the next byte belongs
  int64_t storage_filled_ = 0;        // bytes of it received
  int64_t received_bytes_ = 0;
  std::unique_ptr<blob::AlignedBuffer> buffer_;  // the chunk of a large storage being filled
  int64_t buffer_filled_ = 0;
  std::vector<uint8_t> small_;  // whole small storages, to be worked on together
  std::vector<Piece> small_pieces_;

  Mutex mu_;
  CondVar idle_;
  int in_work_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
  // Guarded by mu_ until Finish, then constant.
  absl::flat_hash_map<Digest, PlacedChunk> chunks_;
  int64_t stored_bytes_ = 0;
  int64_t deduplicated_bytes_ = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_INGEST_H_
