#include "proto/wire/upload_message.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/field_reader.h"
#include "proto/wire/limits.h"

namespace sconce::wire {
namespace {

constexpr uint32_t kManifestField = v1::UploadChunksRequest::kManifestFieldNumber,
                   kChunkField = v1::UploadChunksRequest::kChunkFieldNumber,
                   kOffsetField = v1::UploadChunksRequest::kOffsetFieldNumber,
                   kDataField = v1::UploadChunksRequest::kDataFieldNumber;

}  // namespace

grpc::ByteBuffer EncodeChunkData(int64_t chunk, int64_t offset, absl::Span<const SharedBytes> pieces) {
  int64_t size_bytes = 0;
  for (const SharedBytes& piece : pieces) size_bytes += static_cast<int64_t>(piece.bytes.size());
  std::string prefix;
  AppendVarintField(kChunkField, static_cast<uint64_t>(chunk), prefix);
  AppendVarintField(kOffsetField, static_cast<uint64_t>(offset), prefix);
  AppendBytesPrefix(kDataField, size_bytes, prefix);
  return EncodePieces(std::move(prefix), pieces);
}

absl::StatusOr<UploadMessage> UploadMessage::Decode(const grpc::ByteBuffer& buffer) {
  UploadMessage message;
  SCONCE_ASSIGN_OR_RETURN(message.slices_, MessageSlices(buffer));
  std::vector<ByteSpan> pieces;
  pieces.reserve(message.slices_.size());
  for (const grpc::Slice& slice : message.slices_) pieces.emplace_back(slice.begin(), slice.size());
  std::string small;
  size_t questions = 0;  // counted before they are parsed, which takes many times their bytes
  SCONCE_RETURN_IF_ERROR(ForEachField(pieces, [&](WireField field) {
    if (!field.is_bytes) {
      AppendVarintField(field.number, field.varint, small);
    } else if (field.number == kManifestField) {
      message.manifest_ = std::move(field.bytes);
    } else if (field.number == kDataField) {
      message.data_ = std::move(field.bytes);
    } else {
      if (++questions > kMaxChunkQuestions) return;
      AppendBytesPrefix(field.number, TotalBytes(field.bytes), small);
      AppendPieces(field.bytes, small);
    }
  }));
  if (questions > kMaxChunkQuestions) {
    return MakeError(Reason::MESSAGE_TOO_LARGE,
                     absl::StrCat("a message of the stream has ", questions, " proposals and proofs and may have ",
                                  kMaxChunkQuestions, "; send them in several"));
  }
  if (!message.fields_.ParseFromString(small)) {
    return MakeError(Reason::STREAM_PROTOCOL_VIOLATED,
                     "a message of the stream is no valid UploadChunksRequest; use classes generated from "
                     "sconce/v1/transfer_service.proto");
  }
  return message;
}

}  // namespace sconce::wire
