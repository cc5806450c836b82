#ifndef SCONCE_STORAGE_REPOSITORY_UPLOAD_COMMIT_H_
#define SCONCE_STORAGE_REPOSITORY_UPLOAD_COMMIT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/repository/commit.h"
#include "storage/repository/store.h"
#include "storage/repository/upload_records.h"
#include "storage/repository/uploads.h"
#include "storage/repository/version_records.h"

namespace sconce::repository {

// One attempt to make an upload a version; the steps are at the top of upload_commit.cc. Used by one thread, by one
// attempt per upload at a time.
class UploadCommit {
 public:
  // Gives the writer of a part's blob, resumed at `end` if need be; from then on the part takes nothing more.
  using TakeWriter = std::function<absl::StatusOr<std::unique_ptr<blob::BlobWriter>>(
      int64_t part, const blob::BlobId& blob, int64_t end)>;
  // Ends the streams of a part.
  using CloseStreams = std::function<void(int64_t part)>;

  UploadCommit(Store& store, UploadRef ref, FoundUpload found, TakeWriter take_writer, CloseStreams close_streams)
      : store_(store),
        ref_(std::move(ref)),
        found_(std::move(found)),
        options_(GetOptions(found_.upload.record)),
        take_writer_(std::move(take_writer)),
        close_streams_(std::move(close_streams)) {}

  // The errors of Repository::CommitUpload. Requires an upload that is OPEN or COMMITTING.
  absl::StatusOr<Checkpoint> Run();

 private:
  struct Part {
    BegunPart begun;
    PartJournal journal;
    blob::BlobId blob;
  };

  absl::Status LoadParts();
  absl::Status CheckComplete() const;
  absl::Status CheckShared();
  absl::Status DropLost(const std::vector<std::vector<int64_t>>& lost);
  absl::Status MakeContents();
  absl::Status MakeManifest();
  absl::Status Reserve();
  absl::Status SealParts();
  absl::Status SealFirst();
  absl::StatusOr<Checkpoint> Publish();
  absl::StatusOr<Checkpoint> AnswerAs(const records::RequestRecord& answered);
  // Reads the upload again, which must be in `state`.
  absl::Status Refresh(records::UploadState state);

  Store& store_;
  const UploadRef ref_;
  FoundUpload found_;  // as last read or written
  const PushOptions options_;
  const TakeWriter take_writer_;
  const CloseStreams close_streams_;

  std::vector<std::optional<Part>> parts_;
  PlacedChunks chunks_;  // of all parts
  std::vector<blob::BlobId> blobs_;
  StoredSizes sizes_;
  format::Manifest manifest_;
  std::string manifest_bytes_;
  Digest body_;
  records::CheckpointRecord record_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_UPLOAD_COMMIT_H_
