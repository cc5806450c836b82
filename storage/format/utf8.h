#ifndef SCONCE_STORAGE_FORMAT_UTF8_H_
#define SCONCE_STORAGE_FORMAT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

// UTF-8 as Python's "surrogatepass" writes it: like UTF-8, but a lone surrogate (U+D800 to U+DFFF) is legal, in three
// bytes.
namespace sconce::format {

inline bool IsSurrogate(uint32_t code_point) {
  return code_point >= 0xD800 && code_point <= 0xDFFF;
}

// Reads the code point at text[at] and moves `at` past it. False, and nothing changes, at malformed bytes: overlong
// forms, more than U+10FFFF, stray continuation bytes, a cut end. Requires at < text.size().
bool NextCodePoint(absl::string_view text, size_t& at, uint32_t& code_point);

// All of `text` can be read so; with `allow_surrogates` false it is UTF-8 in the strict sense.
bool IsUtf8(absl::string_view text, bool allow_surrogates);

// The first `max_bytes` of valid text, or less where that would cut a character in two.
absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_UTF8_H_
