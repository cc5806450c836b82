#include "storage/repository/chunk_layout.h"

#include <algorithm>

#include "storage/blob/blob_store.h"

namespace sconce::repository {

ChunkLayout::ChunkLayout(const format::Manifest& manifest) {
  for (size_t i = 0; i < manifest.storages.size(); ++i) {
    const format::Storage& storage = manifest.storages[i];
    if (!format::IsBulk(storage)) continue;
    storages_.push_back({count_, static_cast<format::StorageIndex>(i), storage.size_bytes});
    count_ += format::ChunkCount(storage.size_bytes);
  }
}

ChunkLayout::Entry ChunkLayout::At(int64_t number) const {
  const auto after = std::upper_bound(storages_.begin(), storages_.end(), number,
                                      [](int64_t n, const BulkStorage& storage) { return n < storage.first; });
  const BulkStorage& storage = *(after - 1);
  Entry entry;
  entry.storage = storage.index;
  entry.chunk = static_cast<uint32_t>(number - storage.first);
  entry.size_bytes = std::min(format::kChunkBytes, storage.size_bytes - (number - storage.first) * format::kChunkBytes);
  entry.small = storage.size_bytes < blob::kMappableBytes;
  return entry;
}

}  // namespace sconce::repository
