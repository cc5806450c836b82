#ifndef SCONCE_STORAGE_FORMAT_LATIN1_H_
#define SCONCE_STORAGE_FORMAT_LATIN1_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/strings.h"

// Bytes as characters: pickles of protocol 2 carry a bytes object as the str whose characters have the bytes' numbers.
namespace sconce::format {

// How many bytes that str has in UTF-8: one for each byte below 128, two for each other one.
uint64_t Latin1Utf8Bytes(ByteSpan bytes);
// Appends it.
void AppendLatin1Utf8(ByteSpan bytes, std::string& out);
// The bytes of such a str; nullopt when it has a character above 255, or is not UTF-8.
std::optional<std::string> Latin1FromUtf8(absl::string_view text);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_LATIN1_H_
