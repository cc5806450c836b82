#ifndef SCONCE_STORAGE_FORMAT_CRC32_H_
#define SCONCE_STORAGE_FORMAT_CRC32_H_

#include <cstdint>

#include "base/strings.h"

namespace sconce::format {

// The CRC-32 of zip archives (ISO 3309, reflected, as zlib's), at memory speed. `crc` is that of the bytes before
// `data`, 0 at the start.
uint32_t Crc32(ByteSpan data, uint32_t crc = 0);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_CRC32_H_
