#ifndef SCONCE_STORAGE_REPOSITORY_INGEST_H_
#define SCONCE_STORAGE_REPOSITORY_INGEST_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "storage/blob/aligned_buffer.h"
#include "storage/blob/blob_store.h"
#include "storage/format/manifest.h"
#include "storage/repository/chunk_feed.h"
#include "storage/repository/chunk_layout.h"
#include "storage/repository/ingest_pool.h"
#include "storage/repository/pin_table.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Where a chunk of a push went.
struct PlacedChunk {
  Fingerprint xxh3;
  int64_t size_bytes = 0;
  bool shared = false;  // stored before: nothing was written
  int64_t offset = 0;   // in its blob, unless shared
  size_t blob = 0;      // which of the object's blobs; a push has one
};

// The bytes of one push on their way into its blob: cut into chunks, hashed, looked up in the project's chunks, written
// when they are new. Write and Finish belong to one thread; the work happens on the pool.
class Ingest {
 public:
  // `manifest` is valid. Storages that come with chunk digests must turn out to have them (DIGEST_MISMATCH).
  Ingest(Store& store, IngestPool& pool, uint64_t project_uid, std::unique_ptr<blob::BlobWriter> writer,
         format::Manifest manifest);
  // Destroyed, it waits for what is in work; without a Seal of the writer nothing stays.
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
  // A chunk in work.
  struct Piece {
    ByteSpan content;
    Digest digest;
    Fingerprint xxh3;
    bool first = false;  // of this content in this push
  };

  absl::Status Process(absl::Span<const FedChunk> chunks, ByteSpan bytes, blob::AlignedBuffer* buffer);
  absl::StatusOr<std::vector<Piece>> RecordDigests(absl::Span<const FedChunk> chunks, ByteSpan bytes);
  absl::Status Place(const Piece& piece, blob::AlignedBuffer* buffer, bool stored);

  Store& store_;
  const uint64_t project_uid_;
  const std::unique_ptr<blob::BlobWriter> writer_;
  format::Manifest manifest_;  // each chunk is set by one task
  const ChunkLayout layout_;
  std::vector<bool> claimed_;   // by storage: whether it came with digests
  int64_t expected_bytes_ = 0;  // constant
  PinSet pins_;

  int64_t received_bytes_ = 0;  // of the writing thread

  Mutex mu_;
  // Guarded by mu_ until Finish, then constant.
  absl::flat_hash_map<Digest, PlacedChunk> chunks_;
  int64_t stored_bytes_ = 0;
  int64_t deduplicated_bytes_ = 0;
  ChunkFeed feed_;  // last: its work uses the rest
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_INGEST_H_
