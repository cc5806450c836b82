#ifndef SCONCE_STORAGE_REPOSITORY_CHUNK_LAYOUT_H_
#define SCONCE_STORAGE_REPOSITORY_CHUNK_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "storage/format/manifest.h"

namespace sconce::repository {

// The chunks of a manifest, numbered from 0 through all bulk storages in their order. Immutable.
class ChunkLayout {
 public:
  struct Entry {
    format::StorageIndex storage = 0;
    uint32_t chunk = 0;  // of that storage
    int64_t size_bytes = 0;
    bool small = false;  // it is the only one of a storage below blob::kMappableBytes, so it is packed
  };

  explicit ChunkLayout(const format::Manifest& manifest);

  int64_t count() const { return count_; }
  Entry At(int64_t number) const;  // Requires: 0 <= number < count()

 private:
  struct BulkStorage {
    int64_t first = 0;  // number of its first chunk
    format::StorageIndex index = 0;
    int64_t size_bytes = 0;
  };

  std::vector<BulkStorage> storages_;  // by `first`
  int64_t count_ = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHUNK_LAYOUT_H_
