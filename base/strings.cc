#include "base/strings.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sconce {

std::string ToHex(ByteSpan bytes) {
  return absl::BytesToHexString(AsText(bytes));
}

bool FromHex(absl::string_view hex, std::string& bytes) {
  if (hex.size() % 2 != 0) return false;
  for (const char c : hex) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
  std::string decoded;
  for (size_t i = 0; i < hex.size(); i += 2) {
    decoded.push_back(static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  bytes = std::move(decoded);  // `hex` may be a view of it
  return true;
}

size_t Utf8SequenceLength(absl::string_view s) {
  if (s.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const auto continues = [&](size_t i) { return i < s.size() && (byte(i) & 0xC0) == 0x80; };
  const unsigned char c = byte(0);
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) return continues(1) ? 2 : 0;
  if (c >= 0xE0 && c <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (c == 0xE0 && byte(1) < 0xA0) return 0;
    if (c == 0xED && byte(1) > 0x9F) return 0;  // surrogates
    return 3;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (c == 0xF0 && byte(1) < 0x90) return 0;
    if (c == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

std::string ToValidUtf8(absl::string_view s) {
  std::string out;
  out.reserve(s.size());
  while (!s.empty()) {
    const size_t length = Utf8SequenceLength(s);
    out.append(length == 0 ? "\xEF\xBF\xBD" : s.data(), length == 0 ? 3 : length);
    s.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string HumanBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string Quoted(absl::string_view s, size_t max_bytes) {
  if (s.size() <= max_bytes) return absl::StrCat("\"", absl::Utf8SafeCHexEscape(s), "\"");
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(s.substr(0, max_bytes)), "...\" (", s.size(), " bytes)");
}

}  // namespace sconce
