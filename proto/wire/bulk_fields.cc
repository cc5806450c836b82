// Protobuf's encoding (protobuf.dev/programming-guides/encoding): a message is a sequence of records, each a tag (field
// number << 3 | wire type, as a varint of at most five bytes) and a payload.
#include "proto/wire/bulk_fields.h"

#include <limits>
#include <utility>

#include "base/error.h"

namespace sconce::wire {
namespace {

constexpr uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kGroupStart = 3, kGroupEnd = 4, kFixed32 = 5;
constexpr uint32_t kHeaderField = 1, kManifestField = 2, kOffsetField = 3, kXxh3Field = 4, kDataField = 15;
constexpr int kMaxTagBytes = 5, kMaxSizeBytes = 5, kMaxVarintBytes = 10;
constexpr size_t kMaxGroupDepth = 100;  // protobuf's own limit

absl::Status Malformed(absl::string_view what) {
  return MakeError(Reason::STREAM_PROTOCOL_VIOLATED,
                   std::string("a message of the stream is no valid protobuf: ") + std::string(ToStd(what)) +
                       "; use classes generated from sconce/v1/transfer_service.proto");
}

// A place in bytes that lie in several pieces.
class Cursor {
 public:
  explicit Cursor(absl::Span<const ByteSpan> pieces) : pieces_(pieces) {
    for (const ByteSpan piece : pieces) left_ += piece.size();
  }

  bool AtEnd() const { return left_ == 0; }

  // False when the input ends first, or when it goes on after `max_bytes`. Bits beyond the 64th are dropped.
  bool ReadVarint(int max_bytes, uint64_t& value) {
    value = 0;
    for (int i = 0; i < max_bytes; ++i) {
      if (left_ == 0) return false;
      while (position_ == pieces_[piece_].size()) NextPiece();
      const uint8_t byte = pieces_[piece_][position_++];
      --left_;
      value |= uint64_t{byte & 0x7fu} << (7 * i);
      if (byte < 0x80) return true;
    }
    return false;
  }

  // Passes over `size` bytes, adding them to `taken` unless that is null. False when there are not so many.
  bool Take(uint64_t size, std::vector<ByteSpan>* taken) {
    if (size > left_) return false;
    left_ -= size;
    while (size > 0) {
      if (position_ == pieces_[piece_].size()) NextPiece();
      const ByteSpan part = pieces_[piece_].subspan(position_, size);
      position_ += part.size();
      size -= part.size();
      if (taken != nullptr && !part.empty()) taken->push_back(part);
    }
    return true;
  }

 private:
  void NextPiece() {
    ++piece_;
    position_ = 0;
  }

  const absl::Span<const ByteSpan> pieces_;
  size_t piece_ = 0;
  size_t position_ = 0;  // in that piece
  uint64_t left_ = 0;
};

void AppendTo(std::string& text, const std::vector<ByteSpan>& pieces) {
  for (const ByteSpan piece : pieces) text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
}

int64_t TotalBytes(const std::vector<ByteSpan>& pieces) {
  int64_t total = 0;
  for (const ByteSpan piece : pieces) total += static_cast<int64_t>(piece.size());
  return total;
}

// Puts the payload of a length-delimited field where it belongs; that of an unknown one nowhere.
void SetBytesField(uint32_t field, std::vector<ByteSpan> payload, BulkFields& fields) {
  switch (field) {
    case kHeaderField:
      if (!fields.header.has_value()) fields.header.emplace();
      AppendTo(*fields.header, payload);
      return;
    case kManifestField:
      fields.manifest = std::move(payload);
      return;
    case kXxh3Field:
      fields.xxh3.clear();
      AppendTo(fields.xxh3, payload);
      return;
    case kDataField:
      fields.data = std::move(payload);
      return;
    default:
      return;
  }
}

// The payload of one record that is no group. Inside a group `fields` is null, and everything is skipped.
absl::Status ReadPayload(uint32_t field, uint32_t wire_type, Cursor& cursor, BulkFields* fields) {
  uint64_t number = 0;
  switch (wire_type) {
    case kVarint:
      if (!cursor.ReadVarint(kMaxVarintBytes, number)) return Malformed("bad varint");
      if (fields != nullptr && field == kOffsetField) fields->offset = static_cast<int64_t>(number);
      return absl::OkStatus();
    case kFixed64:
    case kFixed32:
      if (!cursor.Take(wire_type == kFixed64 ? 8 : 4, nullptr)) return Malformed("it is cut off");
      return absl::OkStatus();
    case kBytes: {
      if (!cursor.ReadVarint(kMaxSizeBytes, number)) return Malformed("bad length");
      std::vector<ByteSpan> payload;
      if (!cursor.Take(number, &payload)) return Malformed("a length reaches past its end");
      if (fields != nullptr) SetBytesField(field, std::move(payload), *fields);
      return absl::OkStatus();
    }
    default:
      return Malformed("unknown wire type");
  }
}

void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void AppendTag(uint32_t field, uint32_t wire_type, std::string& out) {
  AppendVarint(field << 3 | wire_type, out);
}

std::string BytesPrefix(uint32_t field, int64_t size_bytes) {
  std::string prefix;
  AppendTag(field, kBytes, prefix);
  AppendVarint(static_cast<uint64_t>(size_bytes), prefix);
  return prefix;
}

}  // namespace

int64_t BulkFields::manifest_bytes() const {
  return TotalBytes(manifest);
}
int64_t BulkFields::data_bytes() const {
  return TotalBytes(data);
}

absl::StatusOr<BulkFields> ParseBulkFields(absl::Span<const ByteSpan> pieces) {
  BulkFields fields;
  Cursor cursor(pieces);
  std::vector<uint32_t> groups;  // numbers of the unknown groups that are open
  while (!cursor.AtEnd()) {
    uint64_t tag64 = 0;
    if (!cursor.ReadVarint(kMaxTagBytes, tag64)) return Malformed("bad tag");
    const auto tag = static_cast<uint32_t>(tag64);
    const uint32_t field = tag >> 3, wire_type = tag & 7;
    if (field == 0) return Malformed("field number 0");
    if (wire_type == kGroupStart) {
      if (groups.size() == kMaxGroupDepth) return Malformed("groups are nested too deeply");
      groups.push_back(field);
    } else if (wire_type == kGroupEnd) {
      if (groups.empty() || groups.back() != field) return Malformed("the end of a group that did not begin");
      groups.pop_back();
    } else if (absl::Status status = ReadPayload(field, wire_type, cursor, groups.empty() ? &fields : nullptr);
               !status.ok()) {
      return status;
    }
  }
  if (!groups.empty()) return Malformed("a group does not end");
  return fields;
}

std::string HeaderPrefix(int64_t header_bytes) {
  return BytesPrefix(kHeaderField, header_bytes);
}

std::string ManifestPrefix(int64_t manifest_bytes) {
  return BytesPrefix(kManifestField, manifest_bytes);
}

std::string DataPrefix(int64_t offset, const Fingerprint& xxh3, int64_t data_bytes) {
  std::string prefix;
  AppendTag(kOffsetField, kVarint, prefix);
  AppendVarint(static_cast<uint64_t>(offset), prefix);
  prefix += BytesPrefix(kXxh3Field, static_cast<int64_t>(xxh3.bytes.size()));
  AppendTo(prefix, {ByteSpan(xxh3.bytes)});
  prefix += BytesPrefix(kDataField, data_bytes);
  return prefix;
}

}  // namespace sconce::wire
