#ifndef SCONCE_STORAGE_BLOB_BLOB_STORE_H_
#define SCONCE_STORAGE_BLOB_BLOB_STORE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/file_system.h"
#include "base/strings.h"
#include "storage/blob/aligned_buffer.h"

namespace sconce::blob {

// Names a blob: 16 random bytes within a project. Blobs never cross a project.
struct BlobId {
  uint64_t project_uid = 0;
  std::array<uint8_t, 16> id{};

  std::string Hex() const { return ToHex(id); }
  friend bool operator==(const BlobId& a, const BlobId& b) { return a.project_uid == b.project_uid && a.id == b.id; }
  friend bool operator<(const BlobId& a, const BlobId& b) {
    return a.project_uid != b.project_uid ? a.project_uid < b.project_uid : a.id < b.id;
  }
  template <typename H>
  friend H AbslHashValue(H h, const BlobId& b) {
    return H::combine(std::move(h), b.project_uid, b.id);
  }
};

// Chunks of at least this many bytes start at a multiple of 4096, so that each can be mapped alone; smaller ones are
// packed at 64.
inline constexpr int64_t kMappableBytes = int64_t{64} << 10;
inline constexpr int64_t kPackAlignment = 64;

// One blob being written: chunks first, then a footer, then sealed for ever. Chunks may be appended from several
// threads at once; FooterOffset and Seal come after every Append has returned. Destroyed without Seal, nothing of it
// stays, unless it was made by CreateResumable or Resume. After a DISK_FULL or IO_ERROR every further call gives the
// same error and the blob can only be dropped; a resumable one can be resumed where it was last synced.
// Against the rules (a chunk after FooterOffset, two seals, an empty or too long chunk) is INTERNAL_ERROR.
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;
  virtual const BlobId& id() const = 0;
  // Writes the first `size_bytes` of `buffer` (which may be padded by this call up to its capacity) and returns the
  // offset it stands at: a multiple of 4096 when `mappable`, else of 64. Not durable before Seal. DISK_FULL, IO_ERROR.
  virtual absl::StatusOr<int64_t> Append(AlignedBuffer& buffer, int64_t size_bytes, bool mappable) = 0;
  // As Append for a small chunk, copied: 0 < data.size() < kMappableBytes.
  virtual absl::StatusOr<int64_t> AppendPacked(ByteSpan data) = 0;
  // What every Append that has returned wrote is durable at its offset, and so is the unsealed blob's name. Nothing
  // later touches the pages it lies in. May run beside appends; one Sync at a time. DISK_FULL, IO_ERROR.
  virtual absl::Status Sync() = 0;
  // Where the following Seal() puts the footer's first byte (a multiple of 64): EncodeFooter in footer.h needs it.
  virtual absl::StatusOr<int64_t> FooterOffset() = 0;
  // Writes the footer, makes all bytes and the name durable and publishes the blob (see local_blob_store.cc for the
  // steps). After OK the blob survives power loss and Open finds it; after an error it does not exist.
  virtual absl::Status Seal(ByteSpan footer) = 0;
};

// A sealed blob, open for reading. It stays readable after Remove for as long as it is held. Thread-safe.
class Blob {
 public:
  virtual ~Blob() = default;
  virtual const BlobId& id() const = 0;
  virtual int64_t size_bytes() const = 0;
  virtual int64_t allocated_bytes() const = 0;  // what it takes on the disk, without holes
  // The range as mapped memory, populated first: may block on the disk, valid while this object lives. IO_ERROR outside
  // the blob.
  virtual absl::StatusOr<ByteSpan> Read(int64_t offset, int64_t size_bytes) const = 0;
  // The footer's bytes as given to Seal; CHUNK_CORRUPT when they do not match their checksum.
  virtual absl::StatusOr<ByteSpan> Footer() const = 0;
  virtual int64_t footer_offset() const = 0;  // where they stand; ReadFooter in footer.h decodes them
  virtual int fd() const = 0;                 // borrowed, read-only
};

struct BlobStats {
  int64_t blobs = 0;
  int64_t physical_bytes = 0;  // the sum of their allocated_bytes
  bool complete = true;        // all blobs there are have been counted
};

// For each of these blobs, in rising order, whether the catalog knows it.
using KnownBlobs = std::function<absl::StatusOr<std::vector<bool>>(absl::Span<const BlobId>)>;

struct SortStep {
  int64_t looked_at = 0;
  int64_t moved = 0;   // to orphans/
  bool ended = false;  // there are no more
};

// A durable set of immutable blobs. Thread-safe.
class BlobStore {
 public:
  virtual ~BlobStore() = default;
  virtual absl::StatusOr<std::unique_ptr<BlobWriter>> Create(uint64_t project_uid) = 0;
  // As Create, but may use the space that is kept in reserve: for work that gives back more than it takes.
  virtual absl::StatusOr<std::unique_ptr<BlobWriter>> CreateInReserve(uint64_t project_uid) = 0;
  // As Create, but the blob stays when the writer is destroyed, as far as it was synced: until it is sealed, removed,
  // or DropUnsealed drops it.
  virtual absl::StatusOr<std::unique_ptr<BlobWriter>> CreateResumable(uint64_t project_uid) = 0;
  // Goes on writing such a blob behind its first `end` bytes; what stood beyond is gone. Requires: no other writer of
  // it lives. CHUNK_CORRUPT when there is no such unsealed blob, or it ends before `end`; DISK_FULL; IO_ERROR.
  virtual absl::StatusOr<std::unique_ptr<BlobWriter>> Resume(const BlobId& id, int64_t end) = 0;
  // The same blob open twice shares one descriptor and mapping. DATA_LOSS (CHUNK_CORRUPT) when it is absent.
  virtual absl::StatusOr<std::shared_ptr<const Blob>> Open(const BlobId& id) = 0;
  // The file of a sealed blob as the disk has it now, past page cache and mappings (FileSystem::OpenDirect): for
  // verification. Nothing of it is checked. CHUNK_CORRUPT when it is absent.
  virtual absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenStored(const BlobId& id) = 0;
  // Unlinks a blob, sealed or resumable; OK if already absent. Readers keep theirs.
  virtual absl::Status Remove(const BlobId& id) = 0;
  virtual absl::StatusOr<std::vector<BlobId>> List() = 0;
  // At start, before any other call: drops blobs that were never sealed, but those that `resumable` accepts. It is
  // asked once for each. Takes time by their number, not by that of the sealed ones.
  virtual absl::Status DropUnsealed(const std::function<bool(const BlobId&)>& resumable) = 0;
  // After DropUnsealed, beside any other call but itself: looks at the next sealed blobs that an earlier process left,
  // `at_most` of them. Those that `known` accepts are counted from now on, the others moved to orphans/, where those
  // older than 24 h are removed. A blob that this process makes is never asked about. After an error, the next call
  // looks at the same blobs again. IO_ERROR, and what `known` says.
  virtual absl::StatusOr<SortStep> SortSealed(const KnownBlobs& known, int64_t at_most) = 0;
  // Of the blobs made since the start, and of the older ones that SortSealed has found known so far.
  virtual BlobStats GetStats() const = 0;

  // DropUnsealed, then SortSealed to its end. Returns how many were moved.
  absl::StatusOr<int64_t> Recover(const std::function<bool(const BlobId&)>& known,
                                  const std::function<bool(const BlobId&)>& resumable);
  absl::StatusOr<int64_t> Recover(const std::function<bool(const BlobId&)>& known);
};

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_BLOB_STORE_H_
