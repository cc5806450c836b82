#ifndef SCONCE_SERVER_SERVICES_STORAGE_STREAM_H_
#define SCONCE_SERVER_SERVICES_STORAGE_STREAM_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/wire/bulk_message.h"
#include "server/services/message_buffers.h"
#include "storage/format/storage_bytes.h"
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

// Some storages, one after the other without padding, as one stream of bytes (docs/adr: "One bulk stream"). Not
// thread-safe.
class BulkStream {
 public:
  virtual ~BulkStream() = default;

  int64_t size_bytes() const { return starts_.back(); }
  int64_t position() const { return position_; }
  // OFFSET_OUT_OF_RANGE unless 0 <= offset <= size_bytes().
  absl::Status Seek(int64_t offset);
  // The next bytes, exactly min(max_bytes, what is left). May block. After an error the position is undefined.
  virtual absl::StatusOr<std::vector<wire::SharedBytes>> Read(int64_t max_bytes) = 0;

 protected:
  // `storages` of `manifest`, which is not kept.
  BulkStream(std::vector<format::StorageIndex> storages, const format::Manifest& manifest);

  // Where the next byte is. Requires position() < size_bytes().
  struct Place {
    format::StorageIndex storage;
    int64_t offset;
    int64_t left;  // to the storage's end
  };
  Place Next();
  void Advance(int64_t bytes) { position_ += bytes; }

 private:
  const std::vector<format::StorageIndex> storages_;
  std::vector<int64_t> starts_;  // where each storage begins, then where the last one ends; constant
  size_t current_ = 0;           // of storages_: the one position_ is in
  int64_t position_ = 0;
};

// Those of a stored object as they are stored, in pieces that point into it. The object is kept, also after its version
// was deleted.
class StorageStream final : public BulkStream {
 public:
  StorageStream(std::shared_ptr<const repository::StoredObject> object, std::vector<format::StorageIndex> storages);
  absl::StatusOr<std::vector<wire::SharedBytes>> Read(int64_t max_bytes) override;

 private:
  ChunkReader reader_;
};

// Those of a manifest as they are made piece by piece, each in a buffer of its own: at most kMaxBulkDataBytes at once.
class MadeStream final : public BulkStream {
 public:
  // `bytes` reads the storages of `manifest`, which is not kept here.
  MadeStream(std::vector<format::StorageIndex> storages, const format::Manifest& manifest,
             std::unique_ptr<format::StorageBytes> bytes);
  absl::StatusOr<std::vector<wire::SharedBytes>> Read(int64_t max_bytes) override;

 private:
  const std::unique_ptr<format::StorageBytes> bytes_;
  const std::shared_ptr<MessageBuffers> buffers_ = std::make_shared<MessageBuffers>();
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_STORAGE_STREAM_H_
