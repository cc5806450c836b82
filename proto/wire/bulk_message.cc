#include "proto/wire/bulk_message.h"

#include <google/protobuf/message_lite.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/limits.h"

namespace sconce::wire {
namespace {

// Below this, copying a piece is cheaper than a slice of its own that refers to it.
constexpr size_t kCopyBelowBytes = 8192;

void ReleaseOwner(void* owner) {
  delete static_cast<std::shared_ptr<const void>*>(owner);
}

grpc::Slice Refer(const SharedBytes& piece) {
  // gRPC never writes to what it sends; its signature merely lacks the const.
  return grpc::Slice(const_cast<uint8_t*>(piece.bytes.data()), piece.bytes.size(), &ReleaseOwner,
                     new std::shared_ptr<const void>(piece.owner));
}

grpc::ByteBuffer ToBuffer(const std::vector<grpc::Slice>& slices) {
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace

SharedBytes Share(std::string bytes) {
  auto owner = std::make_shared<const std::string>(std::move(bytes));
  const ByteSpan span = AsBytes(ToAbsl(*owner));
  return {span, std::move(owner)};
}

grpc::ByteBuffer EncodeMessage(const google::protobuf::MessageLite& message) {
  std::string bytes;
  SCONCE_CHECK(message.SerializePartialToString(&bytes));
  return ToBuffer({grpc::Slice(bytes)});
}

absl::Status DecodeMessage(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message) {
  grpc::Slice bytes;
  if (!buffer.DumpToSingleSlice(&bytes).ok() ||
      !message.ParseFromArray(bytes.begin(), static_cast<int>(bytes.size()))) {
    return MakeError(Reason::STREAM_PROTOCOL_VIOLATED,
                     absl::StrCat("what came is no valid ", message.GetTypeName(), " message"));
  }
  return absl::OkStatus();
}

grpc::ByteBuffer EncodeBulkHeader(const google::protobuf::MessageLite& header) {
  std::string message = HeaderPrefix(static_cast<int64_t>(header.ByteSizeLong()));
  SCONCE_CHECK(header.AppendPartialToString(&message));
  return ToBuffer({grpc::Slice(message)});
}

grpc::ByteBuffer EncodeBulkManifest(const SharedBytes& manifest) {
  const std::string prefix = ManifestPrefix(static_cast<int64_t>(manifest.bytes.size()));
  return ToBuffer({grpc::Slice(prefix), Refer(manifest)});
}

grpc::ByteBuffer EncodeBulkData(int64_t offset, absl::Span<const SharedBytes> pieces) {
  Xxh3Hasher hasher;
  int64_t size_bytes = 0;
  for (const SharedBytes& piece : pieces) {
    hasher.Update(piece.bytes);
    size_bytes += static_cast<int64_t>(piece.bytes.size());
  }
  return EncodePieces(DataPrefix(offset, hasher.Finish(), size_bytes), pieces);
}

grpc::ByteBuffer EncodePieces(std::string prefix, absl::Span<const SharedBytes> pieces) {
  std::vector<grpc::Slice> slices;
  std::string copied = std::move(prefix);  // goes before the next slice that refers
  for (const SharedBytes& piece : pieces) {
    if (piece.bytes.size() < kCopyBelowBytes) {
      copied.append(reinterpret_cast<const char*>(piece.bytes.data()), piece.bytes.size());
      continue;
    }
    if (!copied.empty()) slices.emplace_back(copied);
    copied.clear();
    slices.push_back(Refer(piece));
  }
  if (!copied.empty()) slices.emplace_back(copied);
  return ToBuffer(slices);
}

absl::StatusOr<std::vector<grpc::Slice>> MessageSlices(const grpc::ByteBuffer& buffer) {
  if (static_cast<int64_t>(buffer.Length()) > kMaxMessageBytes) {
    return MakeError(Reason::MESSAGE_TOO_LARGE,
                     absl::StrCat("a message of the stream has ", buffer.Length(), " bytes and may have ",
                                  kMaxMessageBytes, "; send at most ", kMaxBulkDataBytes, " bytes of data in each"));
  }
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) {
    return MakeError(Reason::STREAM_PROTOCOL_VIOLATED, "a message of the stream cannot be decompressed; send it plain");
  }
  return slices;
}

absl::StatusOr<BulkMessage> BulkMessage::Decode(const grpc::ByteBuffer& buffer) {
  BulkMessage message;
  SCONCE_ASSIGN_OR_RETURN(message.slices_, MessageSlices(buffer));
  std::vector<ByteSpan> pieces;
  pieces.reserve(message.slices_.size());
  for (const grpc::Slice& slice : message.slices_) pieces.emplace_back(slice.begin(), slice.size());
  SCONCE_ASSIGN_OR_RETURN(message.fields_, ParseBulkFields(pieces));
  return message;
}

absl::Status BulkMessage::ReadHeader(google::protobuf::MessageLite& header) const {
  SCONCE_CHECK(fields_.header.has_value());
  if (!header.ParseFromString(*fields_.header)) {
    return MakeError(Reason::STREAM_PROTOCOL_VIOLATED,
                     absl::StrCat("the header of the stream is no valid ", header.GetTypeName(), " message"));
  }
  return absl::OkStatus();
}

absl::Status BulkMessage::CheckData() const {
  if (fields_.xxh3.empty()) return absl::OkStatus();
  Xxh3Hasher hasher;
  for (const ByteSpan piece : fields_.data) hasher.Update(piece);
  const Fingerprint actual = hasher.Finish();
  if (actual.AsKey() == ToAbsl(fields_.xxh3)) return absl::OkStatus();
  return MakeError(Reason::DIGEST_MISMATCH,
                   absl::StrCat("a piece of ", fields_.data_bytes(), " bytes has XXH3-128 ", actual.Hex(), ", not ",
                                fields_.xxh3.size() == actual.bytes.size()
                                    ? ToHex(AsBytes(ToAbsl(fields_.xxh3)))
                                    : absl::StrCat("the ", fields_.xxh3.size(), " bytes given"),
                                " as its sender says: it was damaged on the way, send it again"),
                   {{"expected", ToHex(AsBytes(ToAbsl(fields_.xxh3.substr(0, 64))))}, {"actual", actual.Hex()}});
}

}  // namespace sconce::wire
