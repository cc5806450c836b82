#ifndef SCONCE_STORAGE_REPOSITORY_PART_SESSION_H_
#define SCONCE_STORAGE_REPOSITORY_PART_SESSION_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "storage/blob/blob_store.h"
#include "storage/format/manifest.h"
#include "storage/repository/chunk_layout.h"
#include "storage/repository/store.h"
#include "storage/repository/upload.h"
#include "storage/repository/upload_records.h"

namespace sconce::repository {

// Where a stream hears of its durable chunks. Thread-safe.
class DurableSink {
 public:
  explicit DurableSink(DurableCallback callback) : callback_(std::move(callback)) {}
  void Report(std::vector<int64_t> chunks);
  void Close();  // no report after it

 private:
  Mutex mu_;
  DurableCallback callback_ ABSL_GUARDED_BY(mu_);  // null: closed
};

// One part of an open upload while streams are at work on it: what its journal says, what was written and is not
// journalled yet, and the writer of its blob. Shared by the part's streams; there is one per part at a time.
// Thread-safe.
//
// A chunk goes through these steps, each before the next:
//   1. It is hashed. Content that this part has already is not written again.
//   2. It is pinned in memory and looked up. What the project has is shared, everything else is written into the blob.
//   3. The blob is synced: once for all chunks that wait.
//   4. One batch journals them, with a reference of the upload to each shared one, under the conditions that the upload
//   is
//      open and that the record of each shared chunk is unchanged and good. The pins in memory end: from here on the
//      references keep the collector away, also after a restart.
//   5. The streams hear of it.
// After an error nothing more can be done; what is journalled stays.
class PartSession {
 public:
  // `writer` writes the part's blob behind journal.end; null when every chunk is durable.
  PartSession(Store& store, UploadRef ref, const FoundUpload& upload, int64_t part, Digest manifest_digest,
              const format::Manifest& manifest, PartJournal journal, std::unique_ptr<blob::BlobWriter> writer);
  ~PartSession();
  PartSession(const PartSession&) = delete;
  PartSession& operator=(const PartSession&) = delete;

  const ChunkLayout& layout() const { return layout_; }
  const Digest& manifest_digest() const { return manifest_digest_; }
  absl::Status failure() const;
  std::vector<ChunkRange> Durable() const;

  // Without a proof: kHave only for what is durable. DIGEST_MISMATCH when that is other content.
  absl::StatusOr<ChunkVerdict> Propose(int64_t chunk, const Fingerprint& xxh3);

  struct Claim {
    int64_t chunk = 0;
    Fingerprint xxh3;
    Digest sha256;
  };
  // kHave, durably, or kSend for each.
  absl::StatusOr<std::vector<ChunkVerdict>> Prove(absl::Span<const Claim> claims);

  // Steps 1 and 2 of some chunks, and the rest when much is waiting. `buffer`, when not null, holds the content of the
  // only one. For threads of the pool.
  struct Arrival {
    int64_t chunk = 0;
    ByteSpan content;
    std::optional<Fingerprint> announced;  // DIGEST_MISMATCH unless it is that
  };
  absl::Status Take(absl::Span<const Arrival> arrivals, blob::AlignedBuffer* buffer,
                    const std::shared_ptr<DurableSink>& sink);
  // Steps 3 to 5 of all that arrived before.
  absl::Status Sync();

  // Ends the session: everything else fails from now on. Returns when nothing is in work, with the writer (null when it
  // was taken or lost before).
  std::unique_ptr<blob::BlobWriter> Close();

 private:
  // Content that is somewhere, or on its way there.
  struct Placement {
    enum class State { kWriting, kPlaced, kFailed };
    State state = State::kWriting;
    PartChunk content;
    bool pinned = false;  // in memory, until it is journalled
  };
  using PlacementPtr = std::shared_ptr<Placement>;

  struct Waiting {  // for its journal entry
    int64_t chunk = 0;
    PlacementPtr placement;
    std::shared_ptr<DurableSink> sink;  // may be null
  };

  absl::Status Begin();  // one more in work
  void End();
  absl::Status Fail(absl::Status status);
  absl::Status Hash(absl::Span<const Arrival> arrivals, std::vector<PartChunk>& contents) const;
  absl::Status TakeHashed(absl::Span<const Arrival> arrivals, absl::Span<const PartChunk> contents,
                          blob::AlignedBuffer* buffer, const std::shared_ptr<DurableSink>& sink);
  // Step 2, for content nobody else places.
  absl::Status Place(absl::Span<const Arrival> arrivals, absl::Span<const PlacementPtr> placements,
                     blob::AlignedBuffer* buffer);
  // Pins the chunks and says which of them are stored, good, of the fingerprint, and of the size given. Those stay
  // pinned.
  absl::StatusOr<std::vector<bool>> PinStored(absl::Span<const PartChunk> contents, absl::Span<const int64_t> sizes);
  // Step 4. Gives the chunks that became durable; those whose shared content was found corrupt meanwhile are missing.
  absl::StatusOr<std::vector<int64_t>> Journal(absl::Span<const Waiting> waiting);
  absl::StatusOr<std::vector<bool>> ApplyJournal(absl::Span<const Waiting> waiting);
  void Settle(absl::Span<const Waiting> waiting, const std::vector<bool>& journalled);

  Store& store_;
  const UploadRef ref_;
  const uint64_t project_uid_;
  const catalog::Owner owner_;
  const std::string upload_key_;
  const int64_t part_;
  const Digest manifest_digest_;
  const ChunkLayout layout_;
  std::atomic<int64_t> next_sequence_;

  Mutex sync_mu_;  // held over step 3 to 5; taken before mu_

  mutable Mutex mu_;
  CondVar changed_;
  int in_work_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<blob::BlobWriter> writer_;  // constant until Close, which waits for its users
  std::vector<PartChunk> chunks_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Digest, PlacementPtr> placements_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<Fingerprint> settled_xxh3_ ABSL_GUARDED_BY(mu_);
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mu_);
  int64_t waiting_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_PART_SESSION_H_
