#ifndef SCONCE_SERVER_WORKER_PROTOCOL_BYTE_CODEC_H_
#define SCONCE_SERVER_WORKER_PROTOCOL_BYTE_CODEC_H_

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"
#include "base/strings.h"

namespace sconce::worker {

// Appends fixed-width little-endian numbers and counted text to a string.
class ByteWriter {
 public:
  void U8(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void U16(uint16_t value) { Little(value, 2); }
  void U32(uint32_t value) { Little(value, 4); }
  void U64(uint64_t value) { Little(value, 8); }
  void I64(int64_t value) { Little(static_cast<uint64_t>(value), 8); }
  void F64(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    Little(bits, 8);
  }
  // u32 length, then the bytes.
  void Text(absl::string_view text) {
    U32(static_cast<uint32_t>(text.size()));
    bytes_.append(text.data(), text.size());
  }

  std::string Take() { return std::move(bytes_); }

 private:
  void Little(uint64_t value, int width) {
    for (int i = 0; i < width; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
  }

  std::string bytes_;
};

// Reads what ByteWriter wrote, from a sender that is not trusted. The first read past the end, or text longer than
// what is left, makes ok() false for good; from then on every read gives zero or empty, so a decoder checks once at its
// end, and before it allocates anything it takes the number from Count.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Little(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Little(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Little(4)); }
  uint64_t U64() { return Little(8); }
  int64_t I64() { return static_cast<int64_t>(Little(8)); }
  double F64() {
    const uint64_t bits = Little(8);
    double value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  std::string Text(size_t max_bytes) {
    const uint32_t size = U32();
    if (size > max_bytes || size > remaining()) Fail();
    if (!ok_) return "";
    std::string text(AsText(bytes_.subspan(position_, size)));
    position_ += size;
    return text;
  }
  // A u32 that says how many records follow, each of at least `min_bytes_each`: more than can be there is a failure.
  uint32_t Count(size_t min_bytes_each) {
    const uint32_t count = U32();
    if (count > remaining() / min_bytes_each) Fail();
    return ok_ ? count : 0;
  }

  void Fail() { ok_ = false; }
  bool ok() const { return ok_; }
  size_t remaining() const { return ok_ ? bytes_.size() - position_ : 0; }

 private:
  uint64_t Little(size_t width) {
    if (remaining() < width) Fail();
    if (!ok_) return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i) value |= static_cast<uint64_t>(bytes_[position_ + i]) << (8 * i);
    position_ += width;
    return value;
  }

  const ByteSpan bytes_;
  size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace sconce::worker

#endif  // SCONCE_SERVER_WORKER_PROTOCOL_BYTE_CODEC_H_
