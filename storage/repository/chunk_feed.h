#ifndef SCONCE_STORAGE_REPOSITORY_CHUNK_FEED_H_
#define SCONCE_STORAGE_REPOSITORY_CHUNK_FEED_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "storage/blob/aligned_buffer.h"
#include "storage/repository/chunk_layout.h"
#include "storage/repository/ingest_pool.h"

namespace sconce::repository {

// A whole chunk, within the bytes handed over with it.
struct FedChunk {
  int64_t number = 0;  // in the layout
  int64_t begin = 0;   // in the bytes
  int64_t size_bytes = 0;
};

// Cuts the bytes of a stream into whole chunks and has them worked on by the pool: a chunk of a large storage alone, in
// a page-aligned buffer, many small ones together. Used by one thread, but for the work.
class ChunkFeed {
 public:
  // Runs on threads of the pool, several at once. `buffer` holds `bytes`, a single chunk of a large storage, or is null
  // for small ones.
  using Work =
      std::function<absl::Status(absl::Span<const FedChunk> chunks, ByteSpan bytes, blob::AlignedBuffer* buffer)>;

  // `pool` and `layout` outlive this.
  ChunkFeed(IngestPool& pool, const ChunkLayout& layout, Work work);
  ~ChunkFeed();  // drops what is not in work yet, waits for the rest
  ChunkFeed(const ChunkFeed&) = delete;
  ChunkFeed& operator=(const ChunkFeed&) = delete;

  // Where the next byte belongs.
  int64_t chunk() const { return chunk_; }
  int64_t offset() const { return filled_; }
  // Goes to the start of another chunk. Requires: offset() is 0.
  void Seek(int64_t chunk) { chunk_ = chunk; }

  // Takes the next bytes, of this chunk and those that follow it by number; may wait for the pool. Requires: the layout
  // has room for them. Gives the first error of the work, after which nothing works.
  absl::Status Write(ByteSpan bytes);
  // Waits until all whole chunks were worked on.
  absl::Status Flush();

 private:
  absl::Status FirstError();
  void WriteSmall(const ChunkLayout::Entry& entry, ByteSpan& bytes);
  void WriteLarge(const ChunkLayout::Entry& entry, ByteSpan& bytes);
  void NextChunk();
  void SubmitSmall();
  void Submit(absl::AnyInvocable<absl::Status()> task);

  IngestPool& pool_;
  const ChunkLayout& layout_;
  const Work work_;

  int64_t chunk_ = 0;
  int64_t filled_ = 0;                           // bytes of it received
  std::unique_ptr<blob::AlignedBuffer> buffer_;  // of a large chunk being filled
  std::vector<uint8_t> small_;                   // small chunks to be worked on together; the last may be unfinished
  std::vector<FedChunk> small_chunks_;           // the whole ones

  Mutex mu_;
  CondVar idle_;
  int in_work_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHUNK_FEED_H_
