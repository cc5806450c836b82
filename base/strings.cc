#include "base/strings.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sconce {

std::string ToHex(ByteSpan bytes) { return absl::BytesToHexString(AsText(bytes)); }

bool FromHex(absl::string_view hex, std::string& bytes) {
  if (hex.size() % 2 != 0) return false;
  for (const char c : hex) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  bytes = absl::HexStringToBytes(hex);
  return true;
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
