#include "storage/format/byte_codec.h"

#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"

namespace sconce::format {

void PutVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void PutText(absl::string_view text, std::string& out) {
  PutVarint(text.size(), out);
  out.append(text.data(), text.size());
}

void PutDouble(double value, std::string& out) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(bits >> shift));
}

std::string IntBytes(int64_t value) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<char>(value >> shift));
  while (!IsShortestInt(bytes)) bytes.pop_back();
  return bytes;
}

bool IsShortestInt(absl::string_view bytes) {
  if (bytes.empty()) return true;
  const uint8_t last = static_cast<uint8_t>(bytes.back());
  if (bytes.size() == 1) return last != 0;
  const bool sign_before = (static_cast<uint8_t>(bytes[bytes.size() - 2]) & 0x80) != 0;
  return !(last == 0x00 && !sign_before) && !(last == 0xFF && sign_before);
}

int64_t IntFromBytes(absl::string_view bytes) {
  uint64_t value = !bytes.empty() && (static_cast<uint8_t>(bytes.back()) & 0x80) != 0 ? ~uint64_t{0} : 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return static_cast<int64_t>(value);
}

absl::Status ByteReader::Invalid(size_t offset, const char* what, absl::string_view problem) {
  return MakeError(Reason::MANIFEST_INVALID,
                   absl::StrCat("manifest is not valid: ", what, " at byte ", offset, ": ", problem),
                   {{"offset", absl::StrCat(offset)}});
}

absl::Status ByteReader::Byte(const char* what, uint8_t& value) {
  if (remaining() == 0) return Invalid(offset_, what, "the manifest ends here");
  value = bytes_[offset_++];
  return absl::OkStatus();
}

absl::Status ByteReader::Varint(const char* what, uint64_t& value) {
  const size_t start = offset_;
  value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (remaining() == 0) return Invalid(start, what, "the manifest ends inside this number");
    const uint8_t byte = bytes_[offset_++];
    if (shift == 63 && byte > 1) return Invalid(start, what, "number of more than 64 bits");
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) {
      if (byte == 0 && shift > 0) return Invalid(start, what, "number written longer than needed");
      return absl::OkStatus();
    }
  }
  return Invalid(start, what, "number of more than 64 bits");
}

absl::Status ByteReader::Count(const char* what, uint64_t limit, uint64_t& value) {
  const size_t start = offset_;
  SCONCE_RETURN_IF_ERROR(Varint(what, value));
  if (value > limit) return Invalid(start, what, absl::StrCat(value, " is more than the ", limit, " possible here"));
  return absl::OkStatus();
}

absl::Status ByteReader::Signed(const char* what, int64_t& value) {
  uint64_t raw = 0;
  SCONCE_RETURN_IF_ERROR(Varint(what, raw));
  value = UnZigZag(raw);
  return absl::OkStatus();
}

absl::Status ByteReader::Raw(const char* what, size_t size, absl::string_view& value) {
  if (size > remaining()) {
    return Invalid(offset_, what, absl::StrCat(size, " bytes announced, ", remaining(), " left"));
  }
  value = AsText(bytes_.subspan(offset_, size));
  offset_ += size;
  return absl::OkStatus();
}

absl::Status ByteReader::Text(const char* what, absl::string_view& value) {
  uint64_t size = 0;
  SCONCE_RETURN_IF_ERROR(Count(what, std::numeric_limits<int64_t>::max(), size));
  return Raw(what, size, value);
}

absl::Status ByteReader::Double(const char* what, double& value) {
  absl::string_view raw;
  SCONCE_RETURN_IF_ERROR(Raw(what, 8, raw));
  uint64_t bits = 0;
  for (size_t i = 8; i-- > 0;) bits = bits << 8 | static_cast<uint8_t>(raw[i]);
  std::memcpy(&value, &bits, sizeof(value));
  return absl::OkStatus();
}

}  // namespace sconce::format
