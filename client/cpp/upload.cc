// Uploads: one client-streaming call that carries a header, pieces, and ends with the server's answer. A try that ends
// with UNAVAILABLE is made again from the start; the request id makes sure that the server keeps only one version.
#include <algorithm>
#include <utility>

#include "absl/functional/function_ref.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cpp/client.h"
#include "client/cpp/state.h"
#include "proto/wire/bulk_message.h"
#include "proto/wire/limits.h"
#include "storage/format/manifest_codec.h"

namespace sconce::client {
namespace {

// Parses the single answer of a call whose messages are raw buffers.
absl::Status ParseAnswer(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite& answer) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return MakeError(Reason::INTERNAL_ERROR, "the server's answer cannot be read");
  std::string flat;
  for (const grpc::Slice& slice : slices) flat.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  if (!answer.ParseFromString(flat)) return MakeError(Reason::INTERNAL_ERROR, "the server's answer is malformed");
  return absl::OkStatus();
}

// Runs one upload: `send` writes messages until a write fails, and returns an error only for one of its own.
template <typename Answer>
absl::StatusOr<Answer> Upload(const Connection& connection, const char* method,
                              absl::FunctionRef<absl::Status(RawStream&)> send) {
  RetryLoop retry(connection.options().retry);
  while (true) {
    const std::unique_ptr<RawStream> stream = connection.Stream(method);
    SCONCE_RETURN_IF_ERROR(send(*stream));
    stream->WritesDone();
    grpc::ByteBuffer buffer;
    const bool answered = stream->Read(buffer);
    const absl::Status status = wire::FromGrpcStatus(stream->Finish());
    if (status.ok() && !answered) return MakeError(Reason::INTERNAL_ERROR, "the server sent no answer");
    if (status.ok()) {
      Answer answer;
      SCONCE_RETURN_IF_ERROR(ParseAnswer(buffer, answer));
      return answer;
    }
    if (!retry.ShouldRetry(status)) return status;
  }
}

// Sends bytes that follow each other in a logical stream, filling messages across the boundaries of `parts`.
class DataSender {
 public:
  DataSender(RawStream& stream, int64_t total, const Progress& progress)
      : stream_(stream), total_(total), progress_(progress) {}

  // False when the call is over.
  bool Add(const wire::SharedBytes& part) {
    ByteSpan rest = part.bytes;
    while (!rest.empty()) {
      const auto room = static_cast<size_t>(wire::kMaxBulkDataBytes - pending_bytes_);
      const ByteSpan piece = rest.subspan(0, room);
      pending_.push_back({piece, part.owner});
      pending_bytes_ += static_cast<int64_t>(piece.size());
      rest.remove_prefix(piece.size());
      if (pending_bytes_ == wire::kMaxBulkDataBytes && !Flush()) return false;
    }
    return true;
  }

  bool Flush() {
    if (pending_bytes_ == 0) return true;
    const grpc::ByteBuffer message = wire::EncodeBulkData(sent_, pending_);
    sent_ += pending_bytes_;
    pending_.clear();
    pending_bytes_ = 0;
    if (!stream_.Write(message)) return false;
    if (progress_) progress_(sent_, total_);
    return true;
  }

 private:
  RawStream& stream_;
  const int64_t total_;
  const Progress& progress_;
  std::vector<wire::SharedBytes> pending_;
  int64_t pending_bytes_ = 0;
  int64_t sent_ = 0;
};

// Header, then the whole of `bytes` as data.
absl::Status SendFile(RawStream& stream, const google::protobuf::MessageLite& header, const wire::SharedBytes& bytes,
                      const Progress& progress) {
  if (!stream.Write(wire::EncodeBulkHeader(header))) return absl::OkStatus();
  DataSender sender(stream, static_cast<int64_t>(bytes.bytes.size()), progress);
  if (sender.Add(bytes)) sender.Flush();
  return absl::OkStatus();
}

void EnsureRequestId(v1::PushHeader& header) {
  if (header.request_id().empty()) header.set_request_id(NewRequestId());
}

}  // namespace

absl::StatusOr<v1::Checkpoint> Client::PushCheckpoint(v1::PushHeader header, const format::Manifest& manifest,
                                                      const PushSource& source, const Progress& progress) {
  if (source.records.size() != manifest.storages.size()) {
    return MakeError(Reason::ARGUMENT_INVALID, "a push needs the bytes of each storage of its manifest");
  }
  EnsureRequestId(header);
  const wire::SharedBytes encoded = wire::Share(format::EncodeManifest(manifest));
  const int64_t total = format::BulkBytes(manifest);
  return Upload<v1::Checkpoint>(state_->connection, "PushCheckpoint", [&](RawStream& stream) -> absl::Status {
    if (!stream.Write(wire::EncodeBulkHeader(header))) return absl::OkStatus();
    for (ByteSpan rest = encoded.bytes; !rest.empty();) {
      const ByteSpan piece = rest.subspan(0, static_cast<size_t>(wire::kMaxManifestPieceBytes));
      if (!stream.Write(wire::EncodeBulkManifest({piece, encoded.owner}))) return absl::OkStatus();
      rest.remove_prefix(piece.size());
    }
    DataSender sender(stream, total, progress);
    for (size_t i = 0; i < manifest.storages.size(); ++i) {
      const format::Storage& storage = manifest.storages[i];
      if (!format::IsBulk(storage)) continue;
      if (source.records[i].size_bytes != storage.size_bytes) {
        return MakeError(Reason::ARGUMENT_INVALID, "the bytes of a storage are not as many as its manifest says");
      }
      for (format::RecordReader reader(source.records[i]); !reader.done();) {
        SCONCE_ASSIGN_OR_RETURN(format::RecordPiece piece, reader.Next(static_cast<size_t>(wire::kMaxBulkDataBytes)));
        if (piece.owner == nullptr) piece.owner = source.owner;
        if (!sender.Add({piece.bytes, std::move(piece.owner)})) return absl::OkStatus();
      }
    }
    sender.Flush();
    return absl::OkStatus();
  });
}

absl::StatusOr<v1::Checkpoint> Client::ImportCheckpoint(v1::ImportCheckpointRequest::Header header,
                                                        const wire::SharedBytes& file, const Progress& progress) {
  EnsureRequestId(*header.mutable_push());
  return Upload<v1::Checkpoint>(state_->connection, "ImportCheckpoint",
                                [&](RawStream& stream) { return SendFile(stream, header, file, progress); });
}

absl::StatusOr<v1::Module> Client::PushModule(const v1::PushModuleRequest::Header& header,
                                              const wire::SharedBytes& archive, const Progress& progress) {
  return Upload<v1::Module>(state_->connection, "PushModule",
                            [&](RawStream& stream) { return SendFile(stream, header, archive, progress); });
}

}  // namespace sconce::client
