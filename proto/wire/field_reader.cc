#include "proto/wire/field_reader.h"

#include <utility>

#include "base/error.h"

namespace sconce::wire {
namespace {

constexpr uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kGroupStart = 3, kGroupEnd = 4, kFixed32 = 5;
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

// The payload of one record that is no group; true when it is one to be taken.
absl::Status ReadPayload(uint32_t wire_type, Cursor& cursor, WireField& field, bool& known) {
  known = true;
  switch (wire_type) {
    case kVarint:
      if (!cursor.ReadVarint(kMaxVarintBytes, field.varint)) return Malformed("bad varint");
      return absl::OkStatus();
    case kFixed64:
    case kFixed32:
      known = false;
      if (!cursor.Take(wire_type == kFixed64 ? 8 : 4, nullptr)) return Malformed("it is cut off");
      return absl::OkStatus();
    case kBytes: {
      uint64_t size_bytes = 0;
      field.is_bytes = true;
      if (!cursor.ReadVarint(kMaxSizeBytes, size_bytes)) return Malformed("bad length");
      if (!cursor.Take(size_bytes, &field.bytes)) return Malformed("a length reaches past its end");
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

}  // namespace

absl::Status ForEachField(absl::Span<const ByteSpan> pieces, absl::FunctionRef<void(WireField)> take) {
  Cursor cursor(pieces);
  std::vector<uint32_t> groups;  // numbers of the groups that are open
  while (!cursor.AtEnd()) {
    uint64_t tag64 = 0;
    if (!cursor.ReadVarint(kMaxTagBytes, tag64)) return Malformed("bad tag");
    const auto tag = static_cast<uint32_t>(tag64);
    const uint32_t wire_type = tag & 7;
    WireField field;
    field.number = tag >> 3;
    if (field.number == 0) return Malformed("field number 0");
    if (wire_type == kGroupStart) {
      if (groups.size() == kMaxGroupDepth) return Malformed("groups are nested too deeply");
      groups.push_back(field.number);
    } else if (wire_type == kGroupEnd) {
      if (groups.empty() || groups.back() != field.number) return Malformed("the end of a group that did not begin");
      groups.pop_back();
    } else {
      bool known = false;
      if (absl::Status status = ReadPayload(wire_type, cursor, field, known); !status.ok()) return status;
      if (known && groups.empty()) take(std::move(field));
    }
  }
  if (!groups.empty()) return Malformed("a group does not end");
  return absl::OkStatus();
}

int64_t TotalBytes(const std::vector<ByteSpan>& pieces) {
  int64_t total = 0;
  for (const ByteSpan piece : pieces) total += static_cast<int64_t>(piece.size());
  return total;
}

void AppendPieces(const std::vector<ByteSpan>& pieces, std::string& out) {
  for (const ByteSpan piece : pieces) out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
}

void AppendVarintField(uint32_t number, uint64_t value, std::string& out) {
  AppendVarint(number << 3 | kVarint, out);
  AppendVarint(value, out);
}

void AppendBytesPrefix(uint32_t number, int64_t size_bytes, std::string& out) {
  AppendVarint(number << 3 | kBytes, out);
  AppendVarint(static_cast<uint64_t>(size_bytes), out);
}

}  // namespace sconce::wire
