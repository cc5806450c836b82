// Downloads: one server-streaming call whose first message is a header and whose others carry pieces with their place
// and checksum.
//  1. Ask; the header says which version it is, and by a plan token exactly which bytes.
//  2. Take pieces in order; each is checked against its checksum before anybody sees it.
//  3. When the stream breaks with UNAVAILABLE, ask again for the canonical version with the plan, from the first byte
//  still missing.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cpp/client.h"
#include "client/cpp/state.h"
#include "proto/wire/bulk_message.h"
#include "storage/format/manifest_codec.h"

namespace sconce::client {
namespace {

grpc::ByteBuffer EncodeRequest(const google::protobuf::MessageLite& request) {
  const std::string flat = request.SerializeAsString();
  const grpc::Slice slice(flat);
  return grpc::ByteBuffer(&slice, 1);
}

// What a download hands over, in this order; each may fail, which ends the download with that error.
struct Handlers {
  absl::FunctionRef<absl::Status(const wire::BulkMessage&)> header;  // once for each try
  absl::FunctionRef<absl::Status(ByteSpan)> manifest;
  absl::FunctionRef<absl::Status(ByteSpan)> data;
  absl::FunctionRef<std::unique_ptr<google::protobuf::MessageLite>(int64_t offset)>
      request;  // to start, or go on, at `offset`
};

// One try: from `done` on, which it advances.
absl::Status DownloadOnce(const Connection& connection, const char* method, const Handlers& handlers, int64_t& done) {
  const std::unique_ptr<RawStream> stream = connection.Stream(method);
  if (stream->Write(EncodeRequest(*handlers.request(done)))) stream->WritesDone();
  bool first = true;
  grpc::ByteBuffer buffer;
  while (stream->Read(buffer)) {
    SCONCE_ASSIGN_OR_RETURN(const wire::BulkMessage message, wire::BulkMessage::Decode(buffer));
    buffer.Clear();
    if (std::exchange(first, false)) {
      SCONCE_RETURN_IF_ERROR(handlers.header(message));
      continue;
    }
    const wire::BulkFields& fields = message.fields();
    for (const ByteSpan piece : fields.manifest) SCONCE_RETURN_IF_ERROR(handlers.manifest(piece));
    if (fields.data.empty()) continue;
    if (fields.offset.value_or(0) != done) {
      return MakeError(Reason::INTERNAL_ERROR,
                       absl::StrCat("the server sent byte ", fields.offset.value_or(0), " where ", done, " was next"));
    }
    if (const absl::Status status = message.CheckData(); !status.ok()) {
      // Damaged on the way, not at rest: the server checked it. The same bytes asked for again will do.
      return absl::UnavailableError(status.message());
    }
    for (const ByteSpan piece : fields.data) {
      SCONCE_RETURN_IF_ERROR(handlers.data(piece));
      done += static_cast<int64_t>(piece.size());
    }
  }
  return wire::FromGrpcStatus(stream->Finish());
}

// From byte `done` of what is downloaded to its end.
absl::Status Download(const Connection& connection, const char* method, int64_t done, const Handlers& handlers) {
  RetryLoop retry(connection.options().retry);
  while (true) {
    const int64_t before = done;
    const absl::Status status = DownloadOnce(connection, method, handlers, done);
    if (status.ok()) return status;
    if (done > before) retry.Reset();
    if (!retry.ShouldRetry(status)) return status;
  }
}

absl::Status NoManifest(ByteSpan) {
  return MakeError(Reason::INTERNAL_ERROR, "the server sent a manifest where none belongs");
}

absl::Status CheckComplete(int64_t done, int64_t expected) {
  if (done == expected) return absl::OkStatus();
  return MakeError(Reason::INTERNAL_ERROR, absl::StrCat("the server sent ", done, " bytes of ", expected));
}

template <typename Request>
std::unique_ptr<google::protobuf::MessageLite> CopyFrom(const Request& request, int64_t offset) {
  auto copy = std::make_unique<Request>(request);
  copy->set_offset(offset);
  return copy;
}

// Puts the bulk stream into the storages it belongs to.
class StorageFiller {
 public:
  absl::Status Start(FetchedCheckpoint& checkpoint) {
    checkpoint.bytes.resize(checkpoint.manifest.storages.size());
    for (size_t i = 0; i < checkpoint.bytes.size(); ++i) {
      const format::Storage& storage = checkpoint.manifest.storages[i];
      if (format::IsBulk(storage)) {
        checkpoint.bytes[i].resize(static_cast<size_t>(storage.size_bytes));
        targets_.push_back(absl::MakeSpan(checkpoint.bytes[i]));
      } else {
        checkpoint.bytes[i].assign(storage.inline_bytes.begin(), storage.inline_bytes.end());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Add(ByteSpan piece) {
    while (!piece.empty()) {
      if (next_ == targets_.size())
        return MakeError(Reason::INTERNAL_ERROR, "the server sent more bytes than the manifest has");
      absl::Span<uint8_t>& target = targets_[next_];
      const size_t n = std::min(piece.size(), target.size());
      std::memcpy(target.data(), piece.data(), n);
      piece.remove_prefix(n);
      target.remove_prefix(n);
      if (target.empty()) ++next_;
    }
    return absl::OkStatus();
  }

 private:
  std::vector<absl::Span<uint8_t>> targets_;  // what is left of each bulk storage
  size_t next_ = 0;
};

}  // namespace

absl::StatusOr<FetchedCheckpoint> Client::FetchCheckpoint(v1::FetchCheckpointRequest request,
                                                          const Progress& progress) {
  FetchedCheckpoint result;
  std::string encoded;
  StorageFiller filler;
  bool decoded = false;
  int64_t done = 0;
  request.clear_limit();
  const auto decode = [&]() -> absl::Status {
    if (std::exchange(decoded, true)) return absl::OkStatus();
    SCONCE_ASSIGN_OR_RETURN(result.manifest, format::DecodeManifest(AsBytes(encoded)));
    return filler.Start(result);
  };
  SCONCE_RETURN_IF_ERROR(Download(state_->connection, "FetchCheckpoint", done,
                                  {[&](const wire::BulkMessage& message) -> absl::Status {
                                     SCONCE_RETURN_IF_ERROR(message.ReadHeader(result.header));
                                     request.set_name(result.header.checkpoint().name());
                                     request.set_plan(result.header.plan());
                                     if (!decoded) encoded.clear();
                                     return absl::OkStatus();
                                   },
                                   [&](ByteSpan piece) -> absl::Status {
                                     encoded.append(reinterpret_cast<const char*>(piece.data()), piece.size());
                                     return absl::OkStatus();
                                   },
                                   [&](ByteSpan piece) -> absl::Status {
                                     SCONCE_RETURN_IF_ERROR(decode());
                                     SCONCE_RETURN_IF_ERROR(filler.Add(piece));
                                     done += static_cast<int64_t>(piece.size());
                                     if (progress) progress(done, result.header.bulk_bytes());
                                     return absl::OkStatus();
                                   },
                                   [&](int64_t offset) {
                                     request.set_skip_manifest(decoded);
                                     return CopyFrom(request, offset);
                                   }}));
  SCONCE_RETURN_IF_ERROR(decode());
  SCONCE_RETURN_IF_ERROR(CheckComplete(done, format::BulkBytes(result.manifest)));
  return result;
}

absl::StatusOr<v1::ExportCheckpointResponse::Header> Client::ExportCheckpoint(v1::ExportCheckpointRequest request,
                                                                              const ByteSink& sink,
                                                                              const Progress& progress) {
  v1::ExportCheckpointResponse::Header header;
  int64_t done = request.offset();
  SCONCE_RETURN_IF_ERROR(Download(state_->connection, "ExportCheckpoint", done,
                                  {[&](const wire::BulkMessage& message) -> absl::Status {
                                     SCONCE_RETURN_IF_ERROR(message.ReadHeader(header));
                                     request.set_name(header.checkpoint().name());
                                     request.set_plan(header.plan());
                                     return absl::OkStatus();
                                   },
                                   NoManifest,
                                   [&](ByteSpan piece) -> absl::Status {
                                     SCONCE_RETURN_IF_ERROR(sink(piece));
                                     done += static_cast<int64_t>(piece.size());
                                     if (progress) progress(done, header.file_bytes());
                                     return absl::OkStatus();
                                   },
                                   [&](int64_t offset) { return CopyFrom(request, offset); }}));
  SCONCE_RETURN_IF_ERROR(CheckComplete(done, header.file_bytes()));
  return header;
}

absl::StatusOr<v1::Module> Client::FetchModule(v1::FetchModuleRequest request, const ByteSink& sink,
                                               const Progress& progress) {
  v1::Module module;
  int64_t done = request.offset();
  SCONCE_RETURN_IF_ERROR(
      Download(state_->connection, "FetchModule", done,
               {[&](const wire::BulkMessage& message) { return message.ReadHeader(module); }, NoManifest,
                [&](ByteSpan piece) -> absl::Status {
                  SCONCE_RETURN_IF_ERROR(sink(piece));
                  done += static_cast<int64_t>(piece.size());
                  if (progress) progress(done, module.size_bytes());
                  return absl::OkStatus();
                },
                [&](int64_t offset) { return CopyFrom(request, offset); }}));
  SCONCE_RETURN_IF_ERROR(CheckComplete(done, module.size_bytes()));
  return module;
}

}  // namespace sconce::client
