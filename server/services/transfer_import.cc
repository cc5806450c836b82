#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/bulk_message.h"
#include "sconce/v1/transfer_service.pb.h"
#include "server/services/convert.h"
#include "server/services/push_header.h"
#include "server/services/spooled_file.h"
#include "server/services/transfer_calls.h"
#include "storage/format/open_checkpoint.h"

namespace sconce::services {
namespace {

// A file stored untouched: one bare storage, which is the whole tree.
format::TorchIndex OpaqueFile(ByteSpan file) {
  format::TorchIndex result;
  format::Node node;
  node.kind = format::NodeKind::kStorage;
  node.text = "untyped";
  node.integer = 0;
  result.manifest.nodes.push_back(std::move(node));
  format::Storage storage;
  storage.size_bytes = static_cast<int64_t>(file.size());
  if (storage.size_bytes <= format::kInlineStorageBytes) storage.inline_bytes = std::string(ToStd(AsText(file)));
  result.manifest.storages.push_back(std::move(storage));
  result.records.push_back(format::RecordSource::Plain(file));
  return result;
}

// ImportCheckpoint: collects the file, parses it when it is whole, and pushes what is in it. Checksums of records are
// checked as their bytes are pushed: one that does not fit is met before the commit.
class ImportSink final : public rpc::UploadSink {
 public:
  explicit ImportSink(repository::Repository& repository) : repository_(repository) {}

  absl::Status Begin(rpc::CallScope& call, const wire::BulkMessage& first) override {
    v1::ImportCheckpointRequest::Header header;
    SCONCE_RETURN_IF_ERROR(first.ReadHeader(header));
    call.SetResource(ToAbsl(header.push().parent()));
    SCONCE_ASSIGN_OR_RETURN(options_, PushOptionsFromProto(call, header.push()));
    SCONCE_RETURN_IF_ERROR(CheckParent(repository_, options_));
    if (header.opaque()) options_.kind = repository::CheckpointKind::kOpaque;
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Digest> sha256, Sha256FromProto(header.sha256()));
    return file_.Open(repository_, sha256);
  }

  absl::Status TakeData(rpc::CallScope&, const std::vector<ByteSpan>& pieces) override { return file_.Append(pieces); }

  absl::StatusOr<std::optional<grpc::ByteBuffer>> End(rpc::CallScope& call) override {
    SCONCE_RETURN_IF_ERROR(call.CheckCancelled());
    if (push_ == nullptr) {
      SCONCE_RETURN_IF_ERROR(BeginPush());
      return std::optional<grpc::ByteBuffer>();
    }
    if (!feed_->done()) {
      SCONCE_RETURN_IF_ERROR(feed_->WriteSome(*push_, kFeedBytes));
      return std::optional<grpc::ByteBuffer>();
    }
    SCONCE_ASSIGN_OR_RETURN(const repository::Checkpoint checkpoint, push_->Commit());
    const v1::Checkpoint answer = ToProto(checkpoint);
    call.SetResource(ToAbsl(answer.name()));
    return std::optional<grpc::ByteBuffer>(wire::EncodeMessage(answer));
  }

 private:
  absl::Status BeginPush() {
    SCONCE_ASSIGN_OR_RETURN(const ByteSpan bytes, file_.Map());
    format::TorchIndex file;
    if (options_.kind == repository::CheckpointKind::kOpaque) {
      file = OpaqueFile(bytes);
    } else {
      SCONCE_ASSIGN_OR_RETURN(file, format::IndexCheckpointFile(bytes));
    }
    std::vector<format::RecordSource> bulk;
    for (size_t i = 0; i < file.manifest.storages.size(); ++i) {
      if (format::IsBulk(file.manifest.storages[i])) bulk.push_back(file.records[i]);
    }
    feed_.emplace(std::move(bulk));
    SCONCE_ASSIGN_OR_RETURN(push_, repository_.BeginPush(options_, std::move(file.manifest)));
    return absl::OkStatus();
  }

  repository::Repository& repository_;
  repository::PushOptions options_;
  SpooledFile file_;
  std::optional<PushFeed> feed_;  // over file_'s bytes
  std::unique_ptr<repository::CheckpointPush> push_;
};

}  // namespace

std::unique_ptr<rpc::UploadSink> NewImportSink(repository::Repository& repository) {
  return std::make_unique<ImportSink>(repository);
}

}  // namespace sconce::services
