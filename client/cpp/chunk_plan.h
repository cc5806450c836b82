#ifndef SCONCE_CLIENT_CPP_CHUNK_PLAN_H_
#define SCONCE_CLIENT_CPP_CHUNK_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "sconce/v1/transfer_service.pb.h"
#include "storage/format/manifest.h"

namespace sconce::client {

// The chunks of a part, numbered as UploadChunks numbers them (transfer_service.proto), and which of them need nothing
// more. Pure bookkeeping, no I/O. Not thread-safe.
class ChunkPlan {
 public:
  // The chunks of one bulk storage: numbers first to first + count - 1.
  struct StorageChunks {
    format::StorageIndex storage;
    int64_t first;
    int64_t count;
    int64_t size_bytes;  // of all of them
  };

  explicit ChunkPlan(const format::Manifest& manifest);

  int64_t chunk_count() const { return static_cast<int64_t>(settled_.size()); }
  int64_t bulk_bytes() const { return bulk_bytes_; }
  // Bulk storages, in the order of their chunks.
  const std::vector<StorageChunks>& storages() const { return storages_; }

  bool IsSettled(int64_t chunk) const { return settled_[static_cast<size_t>(chunk)]; }
  // True when all chunks of the storage are.
  bool IsSettled(const StorageChunks& storage) const;
  int64_t settled_chunks() const { return settled_chunks_; }
  void Settle(int64_t chunk);
  // What the server says is durable. INTERNAL_ERROR when there are no such chunks; those before were settled then.
  absl::Status Settle(const google::protobuf::RepeatedPtrField<v1::ChunkRange>& ranges);

 private:
  std::vector<StorageChunks> storages_;
  int64_t bulk_bytes_ = 0;
  std::vector<bool> settled_;  // by number
  int64_t settled_chunks_ = 0;
};

}  // namespace sconce::client

#endif  // SCONCE_CLIENT_CPP_CHUNK_PLAN_H_
