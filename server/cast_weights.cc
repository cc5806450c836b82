#include "server/cast_weights.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "server/repository_weights.h"
#include "storage/format/selection.h"

namespace sconce {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr int64_t kAlignment = 64;

// The bulk storages of a part of a stored object, by their number in that part.
class PartBytes final : public format::StorageBytes {
 public:
  // Both are borrowed.
  PartBytes(const repository::StoredObject& object, const std::vector<format::StorageIndex>& source)
      : object_(object), source_(source) {}

  absl::Status Read(format::StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    while (!out.empty()) {
      const int64_t chunk = offset / format::kChunkBytes;
      if (storage != storage_ || chunk != chunk_) {
        storage_ = format::kNoIndex;
        SCONCE_ASSIGN_OR_RETURN(bytes_, object_.ReadChunk(source_[storage], chunk));
        storage_ = storage;
        chunk_ = chunk;
      }
      const ByteSpan part = bytes_.bytes.subspan(static_cast<size_t>(offset % format::kChunkBytes), out.size());
      std::memcpy(out.data(), part.data(), part.size());
      out.remove_prefix(part.size());
      offset += static_cast<int64_t>(part.size());
    }
    return absl::OkStatus();
  }

 private:
  const repository::StoredObject& object_;
  const std::vector<format::StorageIndex>& source_;
  format::StorageIndex storage_ = format::kNoIndex;  // whose chunk is in bytes_
  int64_t chunk_ = 0;
  repository::MappedBytes bytes_;
};

// A file without a name, written once and then sealed.
class MemoryFile {
 public:
  static absl::StatusOr<MemoryFile> Create() {
    UniqueFd fd(::memfd_create("sconce-cast-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd.valid()) return ErrnoToStatus(errno, "making room for converted weights");
    return MemoryFile(std::make_shared<const UniqueFd>(std::move(fd)));
  }

  absl::Status Append(ByteSpan bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::pwrite(fd_->get(), bytes.data(), bytes.size(), size_);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return ErrnoToStatus(written < 0 ? errno : EIO, "keeping converted weights");
      size_ += written;
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }
  void Align() { size_ = (size_ + kAlignment - 1) / kAlignment * kAlignment; }
  absl::Status Seal() {
    // Reading behind the end of a mapped file would end a worker.
    if (::ftruncate(fd_->get(), size_) != 0) return ErrnoToStatus(errno, "keeping converted weights");
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    if (::fcntl(fd_->get(), F_ADD_SEALS, seals) != 0) return ErrnoToStatus(errno, "keeping converted weights");
    return absl::OkStatus();
  }

  int64_t size() const { return size_; }
  inference::FileExtent ExtentFrom(int64_t start) const { return {fd_->get(), start, size_ - start, fd_}; }

 private:
  explicit MemoryFile(std::shared_ptr<const UniqueFd> fd) : fd_(std::move(fd)) {}

  std::shared_ptr<const UniqueFd> fd_;
  int64_t size_ = 0;
};

absl::StatusOr<inference::StoredBytes> Convert(format::StorageIndex index, int64_t size_bytes,
                                               format::CastBytes& source, std::vector<uint8_t>& piece,
                                               MemoryFile& file) {
  file.Align();
  const int64_t start = file.size();
  piece.resize(static_cast<size_t>(std::min(size_bytes, kPieceBytes)));
  for (int64_t done = 0; done < size_bytes;) {
    const auto size = static_cast<size_t>(std::min<int64_t>(size_bytes - done, kPieceBytes));
    const absl::Span<uint8_t> part(piece.data(), size);
    SCONCE_RETURN_IF_ERROR(source.Read(index, done, part));
    SCONCE_RETURN_IF_ERROR(file.Append(part));
    done += static_cast<int64_t>(size);
  }
  inference::StoredBytes stored;
  stored.size_bytes = size_bytes;
  stored.extents.push_back(file.ExtentFrom(start));
  return stored;
}

}  // namespace

absl::StatusOr<inference::StoredBytes> LocateStorage(const std::shared_ptr<const repository::StoredObject>& object,
                                                     format::StorageIndex index) {
  const format::Storage& storage = object->manifest().storages[index];
  inference::StoredBytes stored;
  stored.size_bytes = storage.size_bytes;
  if (!format::IsBulk(storage)) {
    stored.inline_bytes = storage.inline_bytes;
    return stored;
  }
  const int64_t chunks = format::ChunkCount(storage.size_bytes);
  stored.extents.reserve(static_cast<size_t>(chunks));
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    SCONCE_RETURN_IF_ERROR(object->ReadChunk(index, chunk).status());
    const repository::Extent extent = object->Locate(index, chunk);
    stored.extents.push_back({extent.fd, extent.offset, extent.size_bytes, extent.owner});
  }
  return stored;
}

absl::StatusOr<inference::StateDict> OpenCastWeights(const std::shared_ptr<const repository::StoredObject>& object,
                                                     const std::string& path, const format::DtypeCast& cast) {
  SCONCE_RETURN_IF_ERROR(FindStateDict(object->manifest(), path).status());  // in its errors the path is the whole one
  SCONCE_ASSIGN_OR_RETURN(format::Selected part, format::Select(object->manifest(), {path, {}, {}}));
  PartBytes bytes(*object, part.source);
  SCONCE_ASSIGN_OR_RETURN(const format::CastPlan plan, format::PlanCast(std::move(part.manifest), cast, bytes));
  SCONCE_ASSIGN_OR_RETURN(StateDictLayout layout, FindStateDict(plan.manifest, ""));
  format::CastBytes converted(plan, bytes);
  SCONCE_ASSIGN_OR_RETURN(MemoryFile file, MemoryFile::Create());
  std::vector<uint8_t> piece;
  inference::StateDict weights;
  weights.entries = std::move(layout.entries);
  for (const format::StorageIndex index : layout.source) {
    const format::Storage& storage = plan.manifest.storages[index];
    inference::StoredBytes stored;
    if (!format::IsBulk(storage)) {
      stored.size_bytes = storage.size_bytes;
      stored.inline_bytes = storage.inline_bytes;
    } else if (plan.storages[index].from == plan.storages[index].to) {
      SCONCE_ASSIGN_OR_RETURN(stored, LocateStorage(object, part.source[index]));
    } else {
      SCONCE_ASSIGN_OR_RETURN(stored, Convert(index, storage.size_bytes, converted, piece, file));
    }
    weights.storages.push_back(std::move(stored));
  }
  SCONCE_RETURN_IF_ERROR(file.Seal());
  return weights;
}

}  // namespace sconce
