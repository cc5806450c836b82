#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/bulk_message.h"
#include "proto/wire/limits.h"
#include "sconce/v1/transfer_service.pb.h"
#include "server/services/convert.h"
#include "server/services/push_header.h"
#include "server/services/transfer_calls.h"
#include "storage/format/manifest_codec.h"

namespace sconce::services {
namespace {

// What a client may not say in a manifest: digests are the server's to compute.
absl::Status CheckUploadedManifest(const format::Manifest& manifest) {
  for (size_t i = 0; i < manifest.storages.size(); ++i) {
    if (manifest.storages[i].chunks.empty()) continue;
    return MakeError(Reason::MANIFEST_INVALID,
                     absl::StrCat("storage ", i,
                                  " of the manifest has chunk digests; send the manifest without them, "
                                  "the server computes its own"),
                     {{"storage", absl::StrCat(i)}});
  }
  return absl::OkStatus();
}

// PushCheckpoint. The manifest is collected in memory, up to kMaxManifestBytes; the bytes go to the repository as they
// come. A derived manifest (one that was fetched in part) becomes that of an ordinary version.
class PushSink final : public rpc::UploadSink {
 public:
  explicit PushSink(repository::Repository& repository) : repository_(repository) {}

  absl::Status Begin(rpc::CallScope& call, const wire::BulkMessage& first) override {
    v1::PushHeader header;
    SCONCE_RETURN_IF_ERROR(first.ReadHeader(header));
    call.SetResource(ToAbsl(header.parent()));
    SCONCE_ASSIGN_OR_RETURN(options_, PushOptionsFromProto(call, header));
    return CheckParent(repository_, options_);
  }

  absl::Status TakeManifest(const std::vector<ByteSpan>& pieces) override {
    for (const ByteSpan piece : pieces) {
      if (static_cast<int64_t>(manifest_.size() + piece.size()) > wire::kMaxManifestBytes) {
        return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                         absl::StrCat("the manifest has more than ", wire::kMaxManifestBytes,
                                      " bytes, the limit; store the checkpoint in several parts"),
                         {{"limit", absl::StrCat(wire::kMaxManifestBytes)}});
      }
      manifest_.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    }
    return absl::OkStatus();
  }

  absl::Status TakeData(rpc::CallScope&, const std::vector<ByteSpan>& pieces) override {
    SCONCE_RETURN_IF_ERROR(BeginPush());
    for (const ByteSpan piece : pieces) SCONCE_RETURN_IF_ERROR(push_->Write(piece));
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<grpc::ByteBuffer>> End(rpc::CallScope& call) override {
    SCONCE_RETURN_IF_ERROR(BeginPush());
    SCONCE_RETURN_IF_ERROR(call.CheckCancelled());
    SCONCE_ASSIGN_OR_RETURN(const repository::Checkpoint checkpoint, push_->Commit());
    const v1::Checkpoint answer = ToProto(checkpoint);
    call.SetResource(ToAbsl(answer.name()));
    return std::optional<grpc::ByteBuffer>(wire::EncodeMessage(answer));
  }

 private:
  // Once all of the manifest is there.
  absl::Status BeginPush() {
    if (push_ != nullptr) return absl::OkStatus();
    if (manifest_.empty()) {
      return MakeError(Reason::STREAM_PROTOCOL_VIOLATED, "no manifest came; send it after the header, before any data");
    }
    SCONCE_ASSIGN_OR_RETURN(format::Manifest manifest, format::DecodeManifest(AsBytes(ToAbsl(manifest_))));
    std::string().swap(manifest_);
    SCONCE_RETURN_IF_ERROR(CheckUploadedManifest(manifest));
    manifest.derived = false;
    SCONCE_ASSIGN_OR_RETURN(push_, repository_.BeginPush(options_, std::move(manifest)));
    return absl::OkStatus();
  }

  repository::Repository& repository_;
  repository::PushOptions options_;
  std::string manifest_;  // until the push begins
  std::unique_ptr<repository::CheckpointPush> push_;
};

}  // namespace

std::unique_ptr<rpc::UploadSink> NewPushSink(repository::Repository& repository) {
  return std::make_unique<PushSink>(repository);
}

}  // namespace sconce::services
