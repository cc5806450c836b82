#ifndef SCONCE_PROTO_WIRE_UPLOAD_MESSAGE_H_
#define SCONCE_PROTO_WIRE_UPLOAD_MESSAGE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/strings.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "proto/wire/bulk_message.h"
#include "sconce/v1/transfer_service.pb.h"

// What the client sends in UploadChunks, as grpc::ByteBuffers: the bytes of chunks and manifests are pointed at, not
// copied. Everything else of a message goes through the generated class.
namespace sconce::wire {

// A message with `data`, which is the pieces one after the other, beginning at `offset` in chunk `chunk`. Pieces of a
// few KiB are copied, for a reference costs more.
grpc::ByteBuffer EncodeChunkData(int64_t chunk, int64_t offset, absl::Span<const SharedBytes> pieces);

// A received UploadChunksRequest, holding the memory that `manifest` and `data` point into. Movable.
class UploadMessage {
 public:
  // MESSAGE_TOO_LARGE above kMaxMessageBytes or kMaxChunkQuestions; STREAM_PROTOCOL_VIOLATED when it is malformed.
  static absl::StatusOr<UploadMessage> Decode(const grpc::ByteBuffer& buffer);

  // All but `manifest` and `data`, which are empty here.
  const v1::UploadChunksRequest& fields() const { return fields_; }
  // In pieces, since they come in pieces; none of them is empty.
  const std::vector<ByteSpan>& manifest() const { return manifest_; }
  const std::vector<ByteSpan>& data() const { return data_; }

 private:
  std::vector<grpc::Slice> slices_;  // never resized: a short slice holds its bytes itself
  v1::UploadChunksRequest fields_;
  std::vector<ByteSpan> manifest_;
  std::vector<ByteSpan> data_;
};

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_UPLOAD_MESSAGE_H_
