#include "server/services/storage_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/limits.h"

namespace sconce::services {

absl::StatusOr<repository::MappedBytes> ChunkReader::ReadAt(format::StorageIndex storage, int64_t offset) {
  const format::Storage& entry = object_->manifest().storages[storage];
  if (!format::IsBulk(entry)) {
    const ByteSpan bytes = AsBytes(ToAbsl(entry.inline_bytes));
    return repository::MappedBytes{bytes.subspan(static_cast<size_t>(offset)), object_};
  }
  const int64_t chunk = offset / format::kChunkBytes;
  if (storage != storage_ || chunk != chunk_) {
    storage_ = format::kNoIndex;
    SCONCE_ASSIGN_OR_RETURN(chunk_bytes_, object_->ReadChunk(storage, chunk));
    storage_ = storage;
    chunk_ = chunk;
  }
  return repository::MappedBytes{chunk_bytes_.bytes.subspan(static_cast<size_t>(offset % format::kChunkBytes)),
                                 chunk_bytes_.owner};
}

BulkStream::BulkStream(std::vector<format::StorageIndex> storages, const format::Manifest& manifest)
    : storages_(std::move(storages)) {
  starts_.reserve(storages_.size() + 1);
  starts_.push_back(0);
  for (const format::StorageIndex storage : storages_) {
    starts_.push_back(starts_.back() + manifest.storages[storage].size_bytes);
  }
}

absl::Status BulkStream::Seek(int64_t offset) {
  if (offset < 0 || offset > size_bytes()) {
    return MakeError(
        Reason::OFFSET_OUT_OF_RANGE,
        absl::StrCat("offset ", offset, " is not in the stream, which has ", size_bytes(), " bytes; start over at 0"),
        {{"offset", absl::StrCat(offset)}, {"size_bytes", absl::StrCat(size_bytes())}});
  }
  position_ = offset;
  // The storage that holds `offset`: the last one that begins at or before it and is not empty.
  current_ = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), offset) - starts_.begin()) - 1;
  return absl::OkStatus();
}

BulkStream::Place BulkStream::Next() {
  while (position_ == starts_[current_ + 1]) ++current_;
  return {storages_[current_], position_ - starts_[current_], starts_[current_ + 1] - position_};
}

StorageStream::StorageStream(std::shared_ptr<const repository::StoredObject> object,
                             std::vector<format::StorageIndex> storages)
    : BulkStream(std::move(storages), object->manifest()), reader_(std::move(object)) {}

absl::StatusOr<std::vector<wire::SharedBytes>> StorageStream::Read(int64_t max_bytes) {
  std::vector<wire::SharedBytes> pieces;
  while (max_bytes > 0 && position() < size_bytes()) {
    const Place place = Next();
    SCONCE_ASSIGN_OR_RETURN(repository::MappedBytes mapped, reader_.ReadAt(place.storage, place.offset));
    const ByteSpan part = mapped.bytes.subspan(0, static_cast<size_t>(max_bytes));
    pieces.push_back({part, std::move(mapped.owner)});
    Advance(static_cast<int64_t>(part.size()));
    max_bytes -= static_cast<int64_t>(part.size());
  }
  return pieces;
}

MadeStream::MadeStream(std::vector<format::StorageIndex> storages, const format::Manifest& manifest,
                       std::unique_ptr<format::StorageBytes> bytes)
    : BulkStream(std::move(storages), manifest), bytes_(std::move(bytes)) {}

absl::StatusOr<std::vector<wire::SharedBytes>> MadeStream::Read(int64_t max_bytes) {
  const auto size = static_cast<size_t>(std::min({max_bytes, wire::kMaxBulkDataBytes, size_bytes() - position()}));
  if (size == 0) return std::vector<wire::SharedBytes>();
  const std::shared_ptr<uint8_t> buffer = buffers_->Acquire();
  const absl::Span<uint8_t> whole(buffer.get(), size);
  for (absl::Span<uint8_t> left = whole; !left.empty();) {
    const Place place = Next();
    const absl::Span<uint8_t> part = left.subspan(0, static_cast<size_t>(place.left));
    SCONCE_RETURN_IF_ERROR(bytes_->Read(place.storage, place.offset, part));
    Advance(static_cast<int64_t>(part.size()));
    left.remove_prefix(part.size());
  }
  return std::vector<wire::SharedBytes>{{whole, buffer}};
}

}  // namespace sconce::services
