#include "storage/format/latin1.h"

#include <algorithm>

namespace sconce::format {

uint64_t Latin1Utf8Bytes(ByteSpan bytes) {
  uint64_t above_ascii = 0;
  for (const uint8_t byte : bytes) above_ascii += byte >> 7;
  return bytes.size() + above_ascii;
}

void AppendLatin1Utf8(ByteSpan bytes, std::string& out) {
  size_t at = out.size();
  out.resize(at + static_cast<size_t>(Latin1Utf8Bytes(bytes)));
  for (const uint8_t byte : bytes) {
    if (byte < 0x80) {
      out[at++] = static_cast<char>(byte);
    } else {
      out[at++] = static_cast<char>(0xc0 | byte >> 6);
      out[at++] = static_cast<char>(0x80 | (byte & 0x3f));
    }
  }
}

std::optional<std::string> Latin1FromUtf8(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    if (c < 0x80) {
      out.push_back(text[i]);
    } else if ((c == 0xc2 || c == 0xc3) && i + 1 < text.size()) {
      out.push_back(static_cast<char>((c & 3) << 6 | (static_cast<uint8_t>(text[++i]) & 0x3f)));
    } else {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace sconce::format
