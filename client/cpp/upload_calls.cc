// Uploads that resume: the calls around the streams of part_upload.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cpp/client.h"
#include "client/cpp/part_upload.h"
#include "client/cpp/state.h"

namespace sconce::client {
namespace {

absl::Status CheckSource(const format::Manifest& manifest, const PushSource& source) {
  if (source.records.size() != manifest.storages.size()) {
    return MakeError(Reason::ARGUMENT_INVALID, "a push needs the bytes of each storage of its manifest");
  }
  for (size_t i = 0; i < manifest.storages.size(); ++i) {
    if (!format::IsBulk(manifest.storages[i])) continue;
    if (source.records[i].size_bytes != manifest.storages[i].size_bytes) {
      return MakeError(Reason::ARGUMENT_INVALID, "the bytes of a storage are not as many as its manifest says");
    }
  }
  return absl::OkStatus();
}

bool HasManifest(const v1::Upload& upload, int part, const std::string& sha256) {
  return std::any_of(upload.parts().begin(), upload.parts().end(), [&](const v1::Upload::Part& at) {
    return at.part() == part && at.manifest_complete() && at.manifest_sha256() == sha256;
  });
}

}  // namespace

absl::StatusOr<v1::Upload> Client::BeginUpload(const v1::BeginUploadRequest& request) {
  v1::BeginUploadRequest with_id = request;
  if (with_id.upload_id().empty()) with_id.set_upload_id(NewRequestId());
  return state_->connection.Call<v1::TransferService::Stub, v1::BeginUploadRequest, v1::Upload>(
      *state_->transfer, &v1::TransferService::Stub::BeginUpload, with_id, true);
}

absl::Status Client::AbortUpload(const v1::AbortUploadRequest& request) {
  return state_->connection
      .Call<v1::TransferService::Stub, v1::AbortUploadRequest, google::protobuf::Empty>(
          *state_->transfer, &v1::TransferService::Stub::AbortUpload, request, true)
      .status();
}

absl::StatusOr<UploadReport> Client::UploadPart(const std::string& upload, int part, const format::Manifest& manifest,
                                                const PushSource& source, const Progress& progress) {
  SCONCE_RETURN_IF_ERROR(CheckSource(manifest, source));
  RetryPolicy policy = state_->connection.options().retry;
  policy.max_attempts = state_->connection.options().upload_attempts;
  RetryLoop retry(policy);
  PartUpload sending(upload, part, manifest, source, progress);
  v1::GetUploadRequest request;
  request.set_name(upload);
  while (true) {
    const int64_t settled_before = sending.settled_chunks();
    absl::StatusOr<v1::Upload> known = GetUpload(request);
    absl::Status status = known.status();
    if (status.ok()) {
      const std::unique_ptr<RawStream> stream = state_->connection.Stream("UploadChunks");
      status = sending.Run(*stream, !HasManifest(*known, part, sending.manifest_sha256()));
    }
    if (status.ok()) return sending.report();
    if (sending.settled_chunks() > settled_before) retry.Reset();
    if (!retry.ShouldRetry(status)) return status;
  }
}

}  // namespace sconce::client
