#include "client/cpp/chunk_plan.h"

#include "absl/strings/str_cat.h"
#include "base/error.h"

namespace sconce::client {

ChunkPlan::ChunkPlan(const format::Manifest& manifest) {
  int64_t next = 0;
  for (size_t i = 0; i < manifest.storages.size(); ++i) {
    const format::Storage& storage = manifest.storages[i];
    if (!format::IsBulk(storage)) continue;
    const int64_t count = format::ChunkCount(storage.size_bytes);
    storages_.push_back({static_cast<format::StorageIndex>(i), next, count, storage.size_bytes});
    bulk_bytes_ += storage.size_bytes;
    next += count;
  }
  settled_.resize(static_cast<size_t>(next));
}

bool ChunkPlan::IsSettled(const StorageChunks& storage) const {
  for (int64_t i = 0; i < storage.count; ++i) {
    if (!IsSettled(storage.first + i)) return false;
  }
  return true;
}

void ChunkPlan::Settle(int64_t chunk) {
  if (IsSettled(chunk)) return;
  settled_[static_cast<size_t>(chunk)] = true;
  ++settled_chunks_;
}

absl::Status ChunkPlan::Settle(const google::protobuf::RepeatedPtrField<v1::ChunkRange>& ranges) {
  for (const v1::ChunkRange& range : ranges) {
    if (range.first() < 0 || range.last() < range.first() || range.last() >= chunk_count()) {
      return MakeError(Reason::INTERNAL_ERROR, absl::StrCat("the server speaks of chunks ", range.first(), " to ",
                                                            range.last(), ", and this part has ", chunk_count()));
    }
    for (int64_t chunk = range.first(); chunk <= range.last(); ++chunk) Settle(chunk);
  }
  return absl::OkStatus();
}

}  // namespace sconce::client
