#ifndef SCONCE_PROTO_WIRE_BULK_MESSAGE_H_
#define SCONCE_PROTO_WIRE_BULK_MESSAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/strings.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "proto/wire/bulk_fields.h"

namespace google::protobuf {
class MessageLite;
}

// The messages of the bulk streams as grpc::ByteBuffers, without a copy of the bytes they carry. Client and server use
// the same functions, in opposite directions; what they exchange are ordinary messages of transfer_service.proto.
namespace sconce::wire {

// Bytes for a message to point at; `owner` keeps them until gRPC has sent them, which is later than Write() returns.
struct SharedBytes {
  ByteSpan bytes;
  std::shared_ptr<const void> owner;
};
// Of a string that nobody needs any more otherwise.
SharedBytes Share(std::string bytes);

// A message of any type, as unary calls and the single ends of streams have it.
grpc::ByteBuffer EncodeMessage(const google::protobuf::MessageLite& message);
// STREAM_PROTOCOL_VIOLATED, naming the type, when `buffer` is no such message.
absl::Status DecodeMessage(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message);

// A message with only field 1: `header` of a request or an answer, `module` of FetchModuleResponse.
grpc::ByteBuffer EncodeBulkHeader(const google::protobuf::MessageLite& header);
// A message with only `manifest`.
grpc::ByteBuffer EncodeBulkManifest(const SharedBytes& manifest);
// A message with `data`, which is the pieces one after the other, its `offset` and its `xxh3`, computed here: not for a
// reaction. Pieces of a few KiB are copied, for a reference costs more; larger ones are pointed at.
grpc::ByteBuffer EncodeBulkData(int64_t offset, absl::Span<const SharedBytes> pieces);

// For other messages that carry bytes: `prefix` and then the pieces; and what a received one lies in, checked to be of
// a size that may be.
grpc::ByteBuffer EncodePieces(std::string prefix, absl::Span<const SharedBytes> pieces);
absl::StatusOr<std::vector<grpc::Slice>> MessageSlices(const grpc::ByteBuffer& buffer);

// A received message, holding the memory that its fields point into. Movable.
class BulkMessage {
 public:
  // MESSAGE_TOO_LARGE above kMaxMessageBytes, else as ParseBulkFields.
  static absl::StatusOr<BulkMessage> Decode(const grpc::ByteBuffer& buffer);

  const BulkFields& fields() const { return fields_; }
  // Parses `header`, which must be there, into `header`. STREAM_PROTOCOL_VIOLATED when it is malformed.
  absl::Status ReadHeader(google::protobuf::MessageLite& header) const;
  // DIGEST_MISMATCH unless `xxh3` is empty or that of `data`. Hashes all of it: not for a reaction.
  absl::Status CheckData() const;

 private:
  std::vector<grpc::Slice> slices_;  // never resized: a short slice holds its bytes itself
  BulkFields fields_;
};

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_BULK_MESSAGE_H_
