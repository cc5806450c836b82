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
#include "server/services/message_buffers.h"
#include "server/services/prepared_view.h"
#include "server/services/transfer_calls.h"
#include "storage/format/checkpoint_stream.h"
#include "storage/format/safetensors_writer.h"
#include "storage/format/storage_bytes.h"
#include "storage/format/torch_writer.h"

namespace sconce::services {
namespace {

constexpr char kExport[] = "export";
constexpr char kExportSafetensors[] = "export safetensors";
// A resumed export computes what it skips, for the checksums at the file's end. So much of it before others have a
// turn.
constexpr int64_t kSkipBytes = int64_t{32} << 20;

// ExportCheckpoint: the file torch.save or safetensors would write, made message by message; of an opaque version the
// stored bytes.
class ExportSource final : public rpc::DownloadSource {
 public:
  ExportSource(repository::Repository& repository, grpc::ByteBuffer request)
      : repository_(repository), encoded_request_(std::move(request)) {}

  absl::StatusOr<Flow> Next(rpc::CallScope& call, std::optional<grpc::ByteBuffer>& message) override {
    if (view_ == nullptr) {
      SCONCE_RETURN_IF_ERROR(Open(call, message));
    } else if (stored_.has_value()) {
      const int64_t offset = stored_->position();
      SCONCE_ASSIGN_OR_RETURN(const std::vector<wire::SharedBytes> pieces, stored_->Read(wire::kMaxBulkDataBytes));
      message = wire::EncodeBulkData(offset, pieces);
    } else if (file_->position() < first_) {
      SCONCE_RETURN_IF_ERROR(file_->Skip(std::min(kSkipBytes, first_ - file_->position())));
      return Flow::kMore;
    } else if (file_->position() < file_->size_bytes()) {
      SCONCE_RETURN_IF_ERROR(Write(message));
    }
    const bool done =
        stored_.has_value() ? stored_->position() == stored_->size_bytes() : file_->position() == file_->size_bytes();
    return done ? Flow::kDone : Flow::kMore;
  }

 private:
  absl::Status Open(rpc::CallScope& call, std::optional<grpc::ByteBuffer>& message) {
    v1::ExportCheckpointRequest request;
    SCONCE_RETURN_IF_ERROR(wire::DecodeMessage(encoded_request_, request));
    encoded_request_.Clear();
    call.SetResource(ToAbsl(request.name()));
    SCONCE_ASSIGN_OR_RETURN(const format::DtypeCast cast, ReadCast(request.cast()));
    SCONCE_ASSIGN_OR_RETURN(
        const std::shared_ptr<const PreparedView> view,
        PreparedView::Open(repository_, {request.name(), wire::FromProto(request.selection()),
                                         wire::FromProto(request.device_mapping()), request.load_plan(), cast}));
    if (!view->opaque()) SCONCE_RETURN_IF_ERROR(CheckFormat(request.format()));
    const bool safetensors = !view->opaque() && request.format() == v1::ExportCheckpointRequest::SAFETENSORS;
    const char* const what = safetensors ? kExportSafetensors : kExport;
    SCONCE_RETURN_IF_ERROR(view->CheckPlan(what, ToAbsl(request.plan())));

    v1::ExportCheckpointResponse::Header header;
    if (view->opaque()) {
      stored_.emplace(view->object(), std::vector<format::StorageIndex>{0});
      SCONCE_RETURN_IF_ERROR(stored_->Seek(request.offset()));
      header.set_file_bytes(stored_->size_bytes());
    } else {
      bytes_ = view->OpenBytes();
      if (safetensors) {
        SCONCE_ASSIGN_OR_RETURN(auto file, format::SafetensorsStream::Create(view->manifest(), *bytes_));
        for (const std::string& note : file->notes()) header.add_notes(note);
        file_ = std::move(file);
      } else {
        SCONCE_ASSIGN_OR_RETURN(file_,
                                format::TorchFileStream::Create(view->manifest(), *bytes_, ToAbsl(view->Identity())));
      }
      SCONCE_RETURN_IF_ERROR(CheckOffset(request.offset()));
      first_ = request.offset();
      header.set_file_bytes(file_->size_bytes());
    }
    view_ = view;
    *header.mutable_checkpoint() = ToProto(view->info());
    header.set_plan(view->Plan(what));
    AddMappedDevices(view->mapped_devices(), header.mutable_mapped_devices());
    AddCastDtypes(view->cast_dtypes(), header.mutable_cast_dtypes());
    call.SetResource(ToAbsl(header.checkpoint().name()));
    message = wire::EncodeBulkHeader(header);
    return absl::OkStatus();
  }

  static absl::Status CheckFormat(v1::ExportCheckpointRequest::Format format) {
    switch (format) {
      case v1::ExportCheckpointRequest::FORMAT_UNSPECIFIED:
      case v1::ExportCheckpointRequest::PT:
      case v1::ExportCheckpointRequest::SAFETENSORS:
        return absl::OkStatus();
      default:
        return MakeError(Reason::ARGUMENT_INVALID,
                         absl::StrCat("format ", format, " is unknown; use PT or SAFETENSORS"), {{"field", "format"}});
    }
  }

  absl::Status CheckOffset(int64_t offset) const {
    if (offset >= 0 && offset <= file_->size_bytes()) return absl::OkStatus();
    return MakeError(Reason::OFFSET_OUT_OF_RANGE,
                     absl::StrCat("offset ", offset, " is not in the file, which has ", file_->size_bytes(),
                                  " bytes; start over at 0"),
                     {{"offset", absl::StrCat(offset)}, {"size_bytes", absl::StrCat(file_->size_bytes())}});
  }

  absl::Status Write(std::optional<grpc::ByteBuffer>& message) {
    const int64_t offset = file_->position();
    const int64_t size = std::min(wire::kMaxBulkDataBytes, file_->size_bytes() - offset);
    const std::shared_ptr<uint8_t> buffer = buffers_->Acquire();
    const absl::Span<uint8_t> bytes(buffer.get(), static_cast<size_t>(size));
    SCONCE_RETURN_IF_ERROR(file_->Read(bytes));
    message = wire::EncodeBulkData(offset, {wire::SharedBytes{bytes, buffer}});
    return absl::OkStatus();
  }

  repository::Repository& repository_;
  grpc::ByteBuffer encoded_request_;  // until it is opened
  std::shared_ptr<const PreparedView> view_;
  std::optional<StorageStream> stored_;             // of an opaque version
  std::unique_ptr<format::StorageBytes> bytes_;     // of view_
  std::unique_ptr<format::CheckpointStream> file_;  // over view_ and bytes_
  int64_t first_ = 0;                               // first byte of file_ wanted
  const std::shared_ptr<MessageBuffers> buffers_ = std::make_shared<MessageBuffers>();
};

}  // namespace

std::unique_ptr<rpc::DownloadSource> NewExportSource(repository::Repository& repository, grpc::ByteBuffer request) {
  return std::make_unique<ExportSource>(repository, std::move(request));
}

}  // namespace sconce::services
