#include "storage/format/crc32.h"

#include <isa-l/crc.h>

namespace sconce::format {

uint32_t Crc32(ByteSpan data, uint32_t crc) {
  return crc32_gzip_refl(crc, data.data(), data.size());
}

}  // namespace sconce::format
