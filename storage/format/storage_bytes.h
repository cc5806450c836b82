#ifndef SCONCE_STORAGE_FORMAT_STORAGE_BYTES_H_
#define SCONCE_STORAGE_FORMAT_STORAGE_BYTES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// Where the bytes of a manifest's storages come from: a mapped file, blobs, or a cast on the way out.
// Only storages with bytes outside the manifest are asked for (see IsBulk); inline ones are in the manifest itself.
class StorageBytes {
 public:
  virtual ~StorageBytes() = default;
  // Fills `out` with bytes of storage `storage` of the manifest at hand, from `offset`. Never asked for bytes past the
  // storage's end. Any error ends what is being written.
  virtual absl::Status Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_STORAGE_BYTES_H_
