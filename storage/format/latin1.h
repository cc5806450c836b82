#ifndef SCONCE_STORAGE_FORMAT_LATIN1_H_
#define SCONCE_STORAGE_FORMAT_LATIN1_H_

#include <cstdint>
#include <string>

#include "base/strings.h"

// Bytes as characters: pickles of protocol 2 carry a bytes object as the str whose characters have the bytes' numbers.
namespace sconce::format {

// How many bytes that str has in UTF-8: one for each byte below 128, two for each other one.
uint64_t Latin1Utf8Bytes(ByteSpan bytes);
// Appends it.
void AppendLatin1Utf8(ByteSpan bytes, std::string& out);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_LATIN1_H_
