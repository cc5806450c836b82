#ifndef SCONCE_BASE_STRINGS_H_
#define SCONCE_BASE_STRINGS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sconce {

// Debian's Abseil has its own string_view, which does not convert to or from std's. Signatures take absl::string_view;
// these cross over.
inline std::string_view ToStd(absl::string_view s) {
  return {s.data(), s.size()};
}
inline absl::string_view ToAbsl(std::string_view s) {
  return {s.data(), s.size()};
}

// Raw bytes in the tree are absl::Span<const uint8_t>; these cross over to text without a copy.
using ByteSpan = absl::Span<const uint8_t>;
inline ByteSpan AsBytes(absl::string_view s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
inline absl::string_view AsText(ByteSpan b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

// Lower-case hex, two digits a byte.
std::string ToHex(ByteSpan bytes);
// False unless `hex` is an even number of hex digits; then `bytes` is replaced.
bool FromHex(absl::string_view hex, std::string& bytes);

// Bytes of the valid UTF-8 sequence at the start of `s`; 0 if there is none.
size_t Utf8SequenceLength(absl::string_view s);
// `s` with every byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string ToValidUtf8(absl::string_view s);

// "0 B", "1023 B", "1.0 KiB", "97.7 MiB", "1.5 TiB".
std::string HumanBytes(int64_t bytes);
// `s` in double quotes with non-printable bytes escaped and at most `max_bytes` of it shown: for names that come from
// outside.
std::string Quoted(absl::string_view s, size_t max_bytes = 200);

}  // namespace sconce

#endif  // SCONCE_BASE_STRINGS_H_
