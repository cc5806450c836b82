#include "storage/format/utf8.h"

#include <cstring>

namespace sconce::format {

bool NextCodePoint(absl::string_view text, size_t& at, uint32_t& code_point) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) {
    code_point = lead;
    ++at;
    return true;
  }
  size_t length = 0;
  uint32_t smallest = 0;  // anything less would be an overlong form
  if ((lead & 0xE0) == 0xC0) {
    length = 2, smallest = 0x80, code_point = lead & 0x1FU;
  } else if ((lead & 0xF0) == 0xE0) {
    length = 3, smallest = 0x800, code_point = lead & 0x0FU;
  } else if ((lead & 0xF8) == 0xF0) {
    length = 4, smallest = 0x10000, code_point = lead & 0x07U;
  } else {
    return false;
  }
  if (text.size() - at < length) return false;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return false;
    code_point = code_point << 6 | (byte(i) & 0x3FU);
  }
  if (code_point < smallest || code_point > 0x10FFFF) return false;
  at += length;
  return true;
}

bool IsUtf8(absl::string_view text, bool allow_surrogates) {
  uint32_t code_point = 0;
  for (size_t at = 0; at < text.size();) {
    uint64_t eight = 0;
    if (text.size() - at >= sizeof(eight)) {  // most text is ASCII
      std::memcpy(&eight, text.data() + at, sizeof(eight));
      if ((eight & 0x8080808080808080) == 0) {
        at += sizeof(eight);
        continue;
      }
    }
    if (!NextCodePoint(text, at, code_point)) return false;
    if (!allow_surrogates && IsSurrogate(code_point)) return false;
  }
  return true;
}

absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  while (max_bytes > 0 && (static_cast<uint8_t>(text[max_bytes]) & 0xC0) == 0x80) --max_bytes;
  return text.substr(0, max_bytes);
}

}  // namespace sconce::format
