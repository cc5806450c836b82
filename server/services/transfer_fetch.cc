#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/bulk_message.h"
#include "proto/wire/limits.h"
#include "proto/wire/tree_codec.h"
#include "sconce/v1/transfer_service.pb.h"
#include "server/services/convert.h"
#include "server/services/prepared_view.h"
#include "server/services/transfer_calls.h"

namespace sconce::services {
namespace {

constexpr char kFetch[] = "fetch";

// FetchCheckpoint: the header, the manifest, then the bulk stream. In memory are a list of storages and one encoded
// manifest; the bytes stay in the files' mappings until gRPC has sent them, or are cast message by message.
class FetchSource final : public rpc::DownloadSource {
 public:
  FetchSource(repository::Repository& repository, grpc::ByteBuffer request)
      : repository_(repository), encoded_request_(std::move(request)) {}

  absl::StatusOr<Flow> Next(rpc::CallScope& call, std::optional<grpc::ByteBuffer>& message) override {
    if (bulk_ == nullptr) {
      SCONCE_RETURN_IF_ERROR(Open(call, message));
    } else if (!manifest_.bytes.empty()) {
      const wire::SharedBytes piece = {manifest_.bytes.subspan(0, wire::kMaxManifestPieceBytes), manifest_.owner};
      manifest_.bytes.remove_prefix(piece.bytes.size());
      message = wire::EncodeBulkManifest(piece);
      if (manifest_.bytes.empty()) manifest_.owner.reset();
    } else if (bulk_->position() < end_) {
      const int64_t offset = bulk_->position();
      SCONCE_ASSIGN_OR_RETURN(const std::vector<wire::SharedBytes> pieces,
                              bulk_->Read(std::min(wire::kMaxBulkDataBytes, end_ - offset)));
      message = wire::EncodeBulkData(offset, pieces);
    }
    return manifest_.bytes.empty() && bulk_->position() == end_ ? Flow::kDone : Flow::kMore;
  }

 private:
  absl::Status Open(rpc::CallScope& call, std::optional<grpc::ByteBuffer>& message) {
    v1::FetchCheckpointRequest request;
    SCONCE_RETURN_IF_ERROR(wire::DecodeMessage(encoded_request_, request));
    encoded_request_.Clear();
    call.SetResource(ToAbsl(request.name()));
    SCONCE_ASSIGN_OR_RETURN(const format::DtypeCast cast, ReadCast(request.cast()));
    if (request.limit() < 0) {
      return MakeError(Reason::ARGUMENT_INVALID, "limit is negative; give a number of bytes, or 0 for all that follow",
                       {{"field", "limit"}});
    }
    SCONCE_ASSIGN_OR_RETURN(
        const std::shared_ptr<const PreparedView> view,
        PreparedView::Open(repository_, {request.name(), wire::FromProto(request.selection()),
                                         wire::FromProto(request.device_mapping()), request.load_plan(), cast}));
    v1::FetchCheckpointResponse::Header header;
    *header.mutable_checkpoint() = ToProto(view->info());
    if (view->opaque()) {
      return MakeError(
          Reason::CHECKPOINT_OPAQUE,
          absl::StrCat(header.checkpoint().name(), " is opaque and has no tree to fetch; use ExportCheckpoint"),
          {{"checkpoint", header.checkpoint().name()}});
    }
    SCONCE_RETURN_IF_ERROR(view->CheckPlan(kFetch, ToAbsl(request.plan())));
    std::unique_ptr<BulkStream> bulk = view->OpenBulk();
    SCONCE_RETURN_IF_ERROR(bulk->Seek(request.offset()));
    const int64_t left = bulk->size_bytes() - bulk->position();
    end_ = bulk->position() + (request.limit() == 0 ? left : std::min(request.limit(), left));

    const wire::SharedBytes manifest = view->EncodeManifest();
    header.set_plan(view->Plan(kFetch));
    header.set_manifest_bytes(static_cast<int64_t>(manifest.bytes.size()));
    header.set_bulk_bytes(bulk->size_bytes());
    AddMappedDevices(view->mapped_devices(), header.mutable_mapped_devices());
    AddCastDtypes(view->cast_dtypes(), header.mutable_cast_dtypes());
    call.SetResource(ToAbsl(header.checkpoint().name()));
    if (!request.skip_manifest()) manifest_ = manifest;
    bulk_ = std::move(bulk);
    message = wire::EncodeBulkHeader(header);
    return absl::OkStatus();
  }

  repository::Repository& repository_;
  grpc::ByteBuffer encoded_request_;  // until it is opened
  std::unique_ptr<BulkStream> bulk_;
  int64_t end_ = 0;             // of what was asked for, in the bulk stream
  wire::SharedBytes manifest_;  // what of it is still to be sent
};

}  // namespace

std::unique_ptr<rpc::DownloadSource> NewFetchSource(repository::Repository& repository, grpc::ByteBuffer request) {
  return std::make_unique<FetchSource>(repository, std::move(request));
}

}  // namespace sconce::services
