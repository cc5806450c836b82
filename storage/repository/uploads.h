#ifndef SCONCE_STORAGE_REPOSITORY_UPLOADS_H_
#define SCONCE_STORAGE_REPOSITORY_UPLOADS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "storage/repository/ingest_pool.h"
#include "storage/repository/part_session.h"
#include "storage/repository/store.h"
#include "storage/repository/upload_records.h"

namespace sconce::repository {

// A part as it was begun: its record, and its manifest.
struct BegunPart {
  records::PartRecord record;
  format::Manifest manifest;
};
// nullopt when the part was not begun. CHUNK_CORRUPT when its manifest cannot be read.
absl::StatusOr<std::optional<BegunPart>> ReadPart(Store& store, const FoundUpload& upload, int64_t part);

// Repository's calls about uploads. Thread-safe; outlives every stream.
class Uploads {
 public:
  // `wake_collector` is called when something was left to be dropped, or a stream ended.
  Uploads(std::shared_ptr<Store> store, IngestPool& pool, std::function<void()> wake_collector);

  absl::StatusOr<Upload> Begin(const PushOptions& options, const std::string& upload_id, int64_t expected_parts);
  absl::StatusOr<std::unique_ptr<PartStream>> BeginPart(const UploadRef& ref, int64_t part, ByteSpan manifest,
                                                        DurableCallback durable);
  absl::StatusOr<Checkpoint> Commit(const UploadRef& ref);  // upload_commit.h
  absl::Status Abort(const UploadRef& ref);
  absl::StatusOr<Upload> Get(const UploadRef& ref);

 private:
  // Only one at a time opens parts of an upload or commits it.
  class Turn {
   public:
    Turn(Uploads& uploads, uint64_t upload_uid);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Uploads& uploads_;
    const uint64_t upload_uid_;
  };

  absl::StatusOr<std::shared_ptr<PartSession>> OpenSession(const UploadRef& ref, const FoundUpload& asked, int64_t part,
                                                           ByteSpan manifest);
  absl::StatusOr<std::shared_ptr<PartSession>> StartPart(const UploadRef& ref, const FoundUpload& upload, int64_t part,
                                                         ByteSpan manifest);
  std::shared_ptr<PartSession> FindSession(uint64_t upload_uid, int64_t part);
  // The writer of the part's blob, from the session of the part, which ends, or resumed at `end`.
  absl::StatusOr<std::unique_ptr<blob::BlobWriter>> TakeWriter(const FoundUpload& upload, int64_t part,
                                                               const blob::BlobId& blob, int64_t end);

  const std::shared_ptr<Store> store_;
  IngestPool& pool_;
  const std::function<void()> wake_collector_;

  Mutex mu_;
  CondVar turn_ended_;
  absl::flat_hash_set<uint64_t> turns_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<uint64_t, int64_t>, std::weak_ptr<PartSession>> sessions_ ABSL_GUARDED_BY(mu_);
};

// At start: `resumable` for BlobStore::DropUnsealed, and, afterwards, the end of every upload whose files are not all
// there. Takes time by the number of uploads' parts.
class UploadRecovery {
 public:
  // Reads the parts of all uploads.
  static absl::StatusOr<UploadRecovery> Load(const catalog::CatalogReader& reader);
  bool CanResume(const blob::BlobId& unsealed);  // a part's blob
  // Requires: CanResume was asked about every unsealed blob there is. A part's blob may also have been sealed, for a
  // commit that did not come to its end; manifests always are.
  absl::Status AbortBroken(Store& store) const;
  // The uploads' blobs, whether they are there or not.
  absl::flat_hash_set<blob::BlobId> Blobs() const;

 private:
  struct File {
    uint64_t upload_uid = 0;
    std::string upload_key;
    bool resumable = false;  // an unsealed blob that is there
  };

  std::map<blob::BlobId, File> manifests_, parts_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_UPLOADS_H_
