#ifndef SCONCE_STORAGE_FORMAT_BYTE_CODEC_H_
#define SCONCE_STORAGE_FORMAT_BYTE_CODEC_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"

// The primitives of the manifest's encoding (docs/formats/manifest.md, "Primitives").
namespace sconce::format {

// LEB128: seven bits a byte, lowest first, the high bit set on all but the last byte; never longer than needed.
void PutVarint(uint64_t value, std::string& out);
// 0, -1, 1, -2 ... as 0, 1, 2, 3 ...
inline uint64_t ZigZag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
inline int64_t UnZigZag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}
// Length as a varint, then the bytes.
void PutText(absl::string_view text, std::string& out);
// Bits of an IEEE double, eight bytes, little-endian.
void PutDouble(double value, std::string& out);

// Little-endian two's complement, as short as can be: 0 is "", 1 is "\x01", -1 is "\xFF", 128 is "\x80\x00".
std::string IntBytes(int64_t value);
// True when no shorter string means the same number.
bool IsShortestInt(absl::string_view bytes);
// The number, where it fits (at most eight bytes of the shortest form).
int64_t IntFromBytes(absl::string_view bytes);

// Reads what the above wrote, never past the end. Every error is MANIFEST_INVALID, says what was being read, and gives
// the offset where that began.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

  absl::Status Byte(const char* what, uint8_t& value);
  absl::Status Varint(const char* what, uint64_t& value);
  // A varint of at most `limit`.
  absl::Status Count(const char* what, uint64_t limit, uint64_t& value);
  absl::Status Signed(const char* what, int64_t& value);
  absl::Status Raw(const char* what, size_t size, absl::string_view& value);
  absl::Status Text(const char* what, absl::string_view& value);
  absl::Status Double(const char* what, double& value);

  // MANIFEST_INVALID "`what` at byte `offset`: `problem`".
  static absl::Status Invalid(size_t offset, const char* what, absl::string_view problem);

 private:
  const ByteSpan bytes_;
  size_t offset_ = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_BYTE_CODEC_H_
