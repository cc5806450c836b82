#ifndef SCONCE_STORAGE_REPOSITORY_UPLOAD_H_
#define SCONCE_STORAGE_REPOSITORY_UPLOAD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/strings.h"
#include "storage/repository/types.h"

// Uploads: pushes that resume, send only what is not stored yet, and have several writers. Repository::BeginUpload
// opens one; for each of its parts streams bring a manifest and its chunks (PartStream), as many at once as wanted;
// Repository::CommitUpload makes all parts together one version.
//
// A part's chunks are numbered from 0 through all bulk storages of its manifest in their order: each bulk storage has
// format::ChunkCount(size_bytes) of them.
namespace sconce::repository {

inline constexpr int64_t kMaxUploadParts = 10'000;

struct UploadRef {
  RunName run;
  std::string upload;  // its id
};

struct ChunkRange {
  int64_t first = 0;
  int64_t last = 0;  // included
  friend bool operator==(const ChunkRange& a, const ChunkRange& b) { return a.first == b.first && a.last == b.last; }
};

// What of a part is durable.
struct UploadPart {
  int64_t part = 0;
  int64_t chunk_count = 0;
  Digest manifest_digest;  // SHA-256 of its manifest as it was sent
  // Chunks that need nothing more: durable, or found stored and pinned until the upload ends. Ascending, with gaps
  // between.
  std::vector<ChunkRange> durable;
  bool complete() const {
    return chunk_count == 0 || (durable.size() == 1 && durable[0].first == 0 && durable[0].last == chunk_count - 1);
  }
};

struct Upload {
  UploadRef ref;
  int64_t expected_parts = 1;
  std::vector<UploadPart> parts;  // those whose manifest is there, ascending; empty once it was committed
  absl::Time expire_time;         // it is dropped then unless it is touched before
  int64_t version = 0;            // what it became; 0 while it is open
};

struct ChunkProposal {
  int64_t chunk = 0;
  int64_t size_bytes = 0;  // as the manifest says
  Fingerprint xxh3;
};

struct ChunkProof {
  int64_t chunk = 0;
  Digest sha256;
};

enum class ChunkVerdict {
  kSend,   // send its bytes
  kProve,  // a chunk with this fingerprint is stored: prove that it is the same one, or send its bytes
  kHave,   // it is stored, and stays pinned, durably, until the upload ends: nothing more is needed
};

// Called on threads of the repository, several at once, with chunks of one stream that have become durable. Must be
// quick and must not call the stream. Not called any more once the stream's destructor has begun to return.
using DurableCallback = std::function<void(const std::vector<ChunkRange>&)>;

// One stream of a part of an upload. Used by one thread at a time; several streams of one part may be at work at once,
// each with its own thread. Hashing and writing happen on the repository's own threads, with a fixed number of buffers
// (as for Push). Every call may block on the disk. Ends before the repository.
//
// A stream of an upload that is being committed finds everything durable.
//
// Errors end the stream (only destroy it then); what is durable stays, and another stream goes on. Beside those named
// below, every call can give UPLOAD_NOT_FOUND (the upload was aborted, has expired, or is being committed), DISK_FULL,
// IO_ERROR, and errors of bytes written before.
class PartStream {
 public:
  // What was written whole is made durable, as far as that works, without another report; a chunk of which only some
  // bytes came is lost.
  virtual ~PartStream() = default;

  virtual int64_t chunk_count() const = 0;
  // The chunks that were durable when the stream began, of earlier streams and of others: as in UploadPart.
  virtual const std::vector<ChunkRange>& durable() const = 0;

  // Asks about chunks; verdicts come in the order of the proposals. Never kHave, but for a chunk that is durable
  // already. A proposal is not needed before Write, but only a proposed chunk's fingerprint is checked.
  // OFFSET_OUT_OF_RANGE for a number the part does not have; ARGUMENT_INVALID for a size other than the manifest's.
  virtual absl::StatusOr<std::vector<ChunkVerdict>> Propose(absl::Span<const ChunkProposal> proposals) = 0;

  // Answers to kProve: kHave when the project has a chunk of that SHA-256, size and proposed fingerprint, else kSend.
  // When it returns, the pins are durable: one synced write for the whole call, so give many at once.
  // OFFSET_OUT_OF_RANGE; STREAM_PROTOCOL_VIOLATED for a chunk this stream did not propose.
  virtual absl::StatusOr<std::vector<ChunkVerdict>> Prove(absl::Span<const ChunkProof> proofs) = 0;

  // The next bytes of a chunk: `offset` is 0 to begin one, else where its bytes ended before. A chunk that was begun is
  // brought to its end before another one begins. Bytes may run on past the end of the chunk into those that follow
  // it by number, so that many small ones need one call. Takes the bytes before it returns; waits while the pool's
  // buffers are full. Bytes of a chunk that is durable already are dropped.
  // OFFSET_MISMATCH (the message says where the stream stands); OFFSET_OUT_OF_RANGE for a chunk the part does not have;
  // later DIGEST_MISMATCH, when the bytes have another fingerprint than was proposed, or other content than was
  // stored before under this number.
  virtual absl::Status Write(int64_t chunk, int64_t offset, ByteSpan bytes) = 0;

  // Returns when all chunks written whole are durable and were reported. It happens by itself whenever some 32 MiB are
  // waiting. A chunk that was begun may be continued
  // afterwards.
  virtual absl::Status Flush() = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_UPLOAD_H_
