#ifndef SCONCE_SERVER_SERVICES_STORAGE_STREAM_H_
#define SCONCE_SERVER_SERVICES_STORAGE_STREAM_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/wire/bulk_message.h"
#include "storage/repository/repository.h"

namespace sconce::services {

// Reads the storages of a stored object by place. Remembers the chunk it read last, so reading on from there checks it
// no second time. Not thread-safe.
class ChunkReader {
 public:
  explicit ChunkReader(std::shared_ptr<const repository::StoredObject> object) : object_(std::move(object)) {}

  // The bytes of storage `storage` from `offset` to the end of their chunk; `offset` is inside the storage. Of an
  // inline storage all of them. May block. CHUNK_CORRUPT, IO_ERROR.
  absl::StatusOr<repository::MappedBytes> ReadAt(format::StorageIndex storage, int64_t offset);
  const repository::StoredObject& object() const { return *object_; }

 private:
  const std::shared_ptr<const repository::StoredObject> object_;
  format::StorageIndex storage_ = format::kNoIndex;  // what chunk_bytes_ is of
  int64_t chunk_ = -1;
  repository::MappedBytes chunk_bytes_;
};

// Some storages of a stored object, one after the other without padding, as one stream of bytes (docs/adr: "One bulk
// stream"). Not thread-safe; the object is kept, also after its version was deleted.
class StorageStream {
 public:
  StorageStream(std::shared_ptr<const repository::StoredObject> object, std::vector<format::StorageIndex> storages);

  int64_t size_bytes() const { return starts_.back(); }
  int64_t position() const { return position_; }
  // OFFSET_OUT_OF_RANGE unless 0 <= offset <= size_bytes().
  absl::Status Seek(int64_t offset);
  // The next bytes, exactly min(max_bytes, what is left), in pieces that point into the object. May block. After an
  // error the position is undefined.
  absl::StatusOr<std::vector<wire::SharedBytes>> Read(int64_t max_bytes);

 private:
  ChunkReader reader_;
  const std::vector<format::StorageIndex> storages_;
  std::vector<int64_t> starts_;  // where each storage begins, then where the last one ends; constant
  size_t current_ = 0;           // of storages_: the one position_ is in
  int64_t position_ = 0;
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_STORAGE_STREAM_H_
