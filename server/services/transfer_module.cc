#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/bulk_message.h"
#include "proto/wire/limits.h"
#include "proto/wire/resource_name.h"
#include "sconce/v1/transfer_service.pb.h"
#include "server/services/convert.h"
#include "server/services/push_header.h"
#include "server/services/spooled_file.h"
#include "server/services/storage_stream.h"
#include "server/services/transfer_calls.h"
#include "storage/format/module_file.h"

namespace sconce::services {
namespace {

// PushModule: collects the archive, checks when it is whole that it is one, and stores it as it is.
class ModuleSink final : public rpc::UploadSink {
 public:
  explicit ModuleSink(repository::Repository& repository) : repository_(repository) {}

  absl::Status Begin(rpc::CallScope& call, const wire::BulkMessage& first) override {
    v1::PushModuleRequest::Header header;
    SCONCE_RETURN_IF_ERROR(first.ReadHeader(header));
    call.SetResource(ToAbsl(header.name()));
    SCONCE_ASSIGN_OR_RETURN(name_, wire::ParseModule(ToAbsl(header.name())));
    SCONCE_ASSIGN_OR_RETURN(labels_, LabelsFromProto(header.labels()));
    create_run_ = !header.no_create();
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Digest> sha256, Sha256FromProto(header.sha256()));
    return file_.Open(repository_, sha256);
  }

  absl::Status TakeData(rpc::CallScope&, const std::vector<ByteSpan>& pieces) override { return file_.Append(pieces); }

  absl::StatusOr<std::optional<grpc::ByteBuffer>> End(rpc::CallScope& call) override {
    SCONCE_RETURN_IF_ERROR(call.CheckCancelled());
    if (push_ == nullptr) {
      SCONCE_ASSIGN_OR_RETURN(const ByteSpan archive, file_.Map());
      SCONCE_RETURN_IF_ERROR(format::CheckModuleFile(archive));
      SCONCE_ASSIGN_OR_RETURN(
          push_, repository_.BeginModulePush(ToRunName(name_.run), name_.id, static_cast<int64_t>(archive.size()),
                                             labels_, create_run_));
      feed_.emplace(std::vector<format::RecordSource>{format::RecordSource::Plain(archive)});
      return std::optional<grpc::ByteBuffer>();
    }
    if (!feed_->done()) {
      SCONCE_RETURN_IF_ERROR(feed_->WriteSome(*push_, kFeedBytes));
      return std::optional<grpc::ByteBuffer>();
    }
    SCONCE_ASSIGN_OR_RETURN(const repository::Module module, push_->Commit());
    return std::optional<grpc::ByteBuffer>(wire::EncodeMessage(ToProto(module)));
  }

 private:
  repository::Repository& repository_;
  wire::ChildRef name_;
  repository::Labels labels_;
  bool create_run_ = true;
  SpooledFile file_;
  std::optional<PushFeed> feed_;  // over file_'s bytes
  std::unique_ptr<repository::ModulePush> push_;
};

// FetchModule: the module, then the archive as it was pushed.
class ModuleSource final : public rpc::DownloadSource {
 public:
  ModuleSource(repository::Repository& repository, grpc::ByteBuffer request)
      : repository_(repository), encoded_request_(std::move(request)) {}

  absl::StatusOr<Flow> Next(rpc::CallScope& call, std::optional<grpc::ByteBuffer>& message) override {
    if (!archive_.has_value()) {
      SCONCE_RETURN_IF_ERROR(Open(call, message));
    } else {
      const int64_t offset = archive_->position();
      SCONCE_ASSIGN_OR_RETURN(const std::vector<wire::SharedBytes> pieces, archive_->Read(wire::kMaxBulkDataBytes));
      message = wire::EncodeBulkData(offset, pieces);
    }
    return archive_->position() == archive_->size_bytes() ? Flow::kDone : Flow::kMore;
  }

 private:
  absl::Status Open(rpc::CallScope& call, std::optional<grpc::ByteBuffer>& message) {
    v1::FetchModuleRequest request;
    SCONCE_RETURN_IF_ERROR(wire::DecodeMessage(encoded_request_, request));
    call.SetResource(ToAbsl(request.name()));
    SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef name, wire::ParseModule(ToAbsl(request.name())));
    SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenModule> module,
                            repository_.OpenReadModule(ToRunName(name.run), name.id));
    StorageStream archive(module, {0});
    SCONCE_RETURN_IF_ERROR(archive.Seek(request.offset()));
    archive_.emplace(std::move(archive));
    message = wire::EncodeBulkHeader(ToProto(module->info()));
    return absl::OkStatus();
  }

  repository::Repository& repository_;
  const grpc::ByteBuffer encoded_request_;
  std::optional<StorageStream> archive_;
};

}  // namespace

std::unique_ptr<rpc::UploadSink> NewModuleSink(repository::Repository& repository) {
  return std::make_unique<ModuleSink>(repository);
}

std::unique_ptr<rpc::DownloadSource> NewModuleSource(repository::Repository& repository, grpc::ByteBuffer request) {
  return std::make_unique<ModuleSource>(repository, std::move(request));
}

}  // namespace sconce::services
