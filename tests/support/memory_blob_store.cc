#include "tests/support/memory_blob_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "storage/blob/blob_path.h"
#include "storage/blob/footer.h"

namespace sconce::blob {
namespace {

int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

class MemoryBlob final : public Blob {
 public:
  MemoryBlob(const Trailer& trailer, const std::string& content) : trailer_(trailer) {
    const UniqueFd writable(::memfd_create("sconce-blob", MFD_CLOEXEC));
    SCONCE_CHECK(writable.valid());
    SCONCE_CHECK(::write(writable.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
    void* mapping = ::mmap(nullptr, content.size(), PROT_READ | PROT_WRITE, MAP_SHARED, writable.get(), 0);
    SCONCE_CHECK(mapping != MAP_FAILED);
    bytes_ = absl::MakeSpan(static_cast<uint8_t*>(mapping), content.size());
    fd_.Reset(::open(absl::StrCat("/proc/self/fd/", writable.get()).c_str(), O_RDONLY | O_CLOEXEC));
    SCONCE_CHECK(fd_.valid());
  }
  ~MemoryBlob() override { ::munmap(bytes_.data(), bytes_.size()); }

  const BlobId& id() const override { return trailer_.id; }
  int64_t size_bytes() const override { return static_cast<int64_t>(bytes_.size()); }
  int64_t footer_offset() const override { return trailer_.footer_offset; }
  int64_t allocated_bytes() const override { return size_bytes(); }  // written as a whole
  int fd() const override { return fd_.get(); }

  absl::StatusOr<ByteSpan> Read(int64_t offset, int64_t size_bytes) const override {
    if (offset < 0 || size_bytes < 0 || offset > this->size_bytes() - size_bytes) {
      return MakeError(Reason::IO_ERROR, absl::StrCat("cannot read blob ", id().Hex(), ": ", size_bytes, " bytes at ",
                                                      offset, " are not within it"));
    }
    return ByteSpan(bytes_).subspan(static_cast<size_t>(offset), static_cast<size_t>(size_bytes));
  }

  absl::StatusOr<ByteSpan> Footer() const override {
    SCONCE_ASSIGN_OR_RETURN(const ByteSpan footer, Read(trailer_.footer_offset, trailer_.footer_size_bytes));
    if (Xxh3(footer) == trailer_.footer_xxh3) return footer;
    return MakeError(Reason::CHUNK_CORRUPT,
                     absl::StrCat("the footer of blob ", id().Hex(), " does not match its checksum"));
  }

  void FlipBit(int64_t offset) const { bytes_[static_cast<size_t>(offset)] ^= 1; }

 private:
  const Trailer trailer_;
  absl::Span<uint8_t> bytes_;
  UniqueFd fd_;
};

// A blob's bytes as a file.
class StoredFile final : public ReadableFile {
 public:
  explicit StoredFile(std::shared_ptr<const Blob> blob) : blob_(std::move(blob)) {}

  int64_t size_bytes() const override { return blob_->size_bytes(); }
  int64_t allocated_bytes() const override { return blob_->size_bytes(); }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out) const override {
    SCONCE_ASSIGN_OR_RETURN(const ByteSpan bytes, blob_->Read(offset, static_cast<int64_t>(out.size())));
    std::copy(bytes.begin(), bytes.end(), out.begin());
    return absl::OkStatus();
  }
  absl::StatusOr<ByteSpan> Map() const override { return blob_->Read(0, blob_->size_bytes()); }
  absl::Status Populate(int64_t offset, int64_t size_bytes) const override {
    return blob_->Read(offset, size_bytes).status();
  }
  int fd() const override { return blob_->fd(); }

 private:
  const std::shared_ptr<const Blob> blob_;
};

}  // namespace

class MemoryBlobWriter final : public BlobWriter {
 public:
  MemoryBlobWriter(MemoryBlobStore& store, BlobId id, bool resumable = false, std::string content = "")
      : store_(store), id_(id), resumable_(resumable), content_(std::move(content)), kept_bytes_(content_.size()) {}
  ~MemoryBlobWriter() override {
    if (sealed_) return;
    store_.Release(static_cast<int64_t>(content_.size() - kept_bytes_));
  }

  const BlobId& id() const override { return id_; }

  absl::StatusOr<int64_t> Append(AlignedBuffer& buffer, int64_t size_bytes, bool mappable) override {
    if (size_bytes <= 0 || size_bytes > buffer.capacity()) return Misuse();
    return Add(ByteSpan(buffer.data(), static_cast<size_t>(size_bytes)), mappable ? kDirectAlignment : kPackAlignment);
  }

  absl::StatusOr<int64_t> AppendPacked(ByteSpan data) override {
    if (data.empty() || data.size() >= kMappableBytes) return Misuse();
    return Add(data, kPackAlignment);
  }

  absl::Status Sync() override {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(failure_);
    if (footer_offset_.has_value()) return Misuse();
    SCONCE_RETURN_IF_ERROR(Grow(RoundUp(static_cast<int64_t>(content_.size()), kDirectAlignment)));
    if (!resumable_) return absl::OkStatus();
    MutexLock store_lock(&store_.mu_);
    const auto kept = store_.unsealed_.find(id_);
    if (kept == store_.unsealed_.end()) return absl::OkStatus();  // removed meanwhile
    kept->second = content_;
    kept_bytes_ = content_.size();
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> FooterOffset() override {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(failure_);
    if (!footer_offset_.has_value()) {
      SCONCE_RETURN_IF_ERROR(Grow(RoundUp(static_cast<int64_t>(content_.size()), kPackAlignment)));
      footer_offset_ = static_cast<int64_t>(content_.size());
    }
    return *footer_offset_;
  }

  absl::Status Seal(ByteSpan footer) override {
    SCONCE_ASSIGN_OR_RETURN(const int64_t footer_offset, FooterOffset());
    MutexLock lock(&mu_);
    if (sealed_) return Misuse();
    Trailer trailer;
    trailer.id = id_;
    trailer.footer_offset = footer_offset;
    trailer.footer_size_bytes = static_cast<int64_t>(footer.size());
    trailer.file_size_bytes = SealedSize(footer_offset, trailer.footer_size_bytes);
    trailer.footer_xxh3 = Xxh3(footer);
    SCONCE_RETURN_IF_ERROR(Grow(trailer.file_size_bytes));
    std::copy(footer.begin(), footer.end(), content_.begin() + footer_offset);
    const auto end = EncodeTrailer(trailer);
    std::copy(end.begin(), end.end(), content_.end() - kTrailerBytes);
    auto blob = std::make_shared<const MemoryBlob>(trailer, content_);
    MutexLock store_lock(&store_.mu_);
    if (resumable_ && store_.unsealed_.erase(id_) == 0) {
      return MakeError(Reason::IO_ERROR, "the blob was removed while it was written");
    }
    store_.sealed_.emplace(id_, std::move(blob));
    sealed_ = true;
    return absl::OkStatus();
  }

 private:
  static absl::Status Misuse() { return MakeError(Reason::INTERNAL_ERROR, "a blob was written wrongly"); }

  // Extends the blob with zeros.
  absl::Status Grow(int64_t size_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    failure_ = store_.Reserve(size_bytes - static_cast<int64_t>(content_.size()));
    if (failure_.ok()) content_.resize(static_cast<size_t>(size_bytes));
    return failure_;
  }

  absl::StatusOr<int64_t> Add(ByteSpan data, int64_t alignment) {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(failure_);
    if (footer_offset_.has_value()) return Misuse();
    const int64_t offset = RoundUp(static_cast<int64_t>(content_.size()), alignment);
    SCONCE_RETURN_IF_ERROR(Grow(offset + static_cast<int64_t>(data.size())));
    std::copy(data.begin(), data.end(), content_.begin() + offset);
    return offset;
  }

  MemoryBlobStore& store_;  // outlives this
  const BlobId id_;
  const bool resumable_;
  Mutex mu_;  // taken before the store's
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  std::string content_ ABSL_GUARDED_BY(mu_);
  size_t kept_bytes_ ABSL_GUARDED_BY(mu_);  // of them, those the store has and accounts for
  std::optional<int64_t> footer_offset_ ABSL_GUARDED_BY(mu_);
  bool sealed_ = false;
};

absl::Status MemoryBlobStore::Reserve(int64_t bytes) {
  MutexLock lock(&mu_);
  if (reserved_bytes_ + bytes > capacity_bytes_) {
    return MakeError(Reason::DISK_FULL, "the memory blob store is full; remove blobs");
  }
  reserved_bytes_ += bytes;
  return absl::OkStatus();
}

void MemoryBlobStore::Release(int64_t bytes) {
  MutexLock lock(&mu_);
  reserved_bytes_ -= bytes;
}

absl::StatusOr<std::unique_ptr<BlobWriter>> MemoryBlobStore::Create(uint64_t project_uid) {
  return std::make_unique<MemoryBlobWriter>(*this, RandomBlobId(project_uid));
}

absl::StatusOr<std::unique_ptr<BlobWriter>> MemoryBlobStore::CreateInReserve(uint64_t project_uid) {
  return Create(project_uid);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> MemoryBlobStore::CreateResumable(uint64_t project_uid) {
  const BlobId id = RandomBlobId(project_uid);
  MutexLock lock(&mu_);
  unsealed_.emplace(id, "");
  return std::make_unique<MemoryBlobWriter>(*this, id, true);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> MemoryBlobStore::Resume(const BlobId& id, int64_t end) {
  MutexLock lock(&mu_);
  const auto found = unsealed_.find(id);
  if (found == unsealed_.end() || end > static_cast<int64_t>(found->second.size())) {
    return MakeError(Reason::CHUNK_CORRUPT, absl::StrCat("the unsealed blob ", id.Hex(), " is missing or too short"),
                     {{"blob", id.Hex()}});
  }
  std::string& content = found->second;
  const auto kept = static_cast<size_t>(RoundUp(end, kDirectAlignment));
  reserved_bytes_ -= static_cast<int64_t>(content.size() - kept);
  content.resize(kept);
  return std::make_unique<MemoryBlobWriter>(*this, id, true, content);
}

absl::StatusOr<std::shared_ptr<const Blob>> MemoryBlobStore::Open(const BlobId& id) {
  MutexLock lock(&mu_);
  const auto found = sealed_.find(id);
  if (found != sealed_.end()) return found->second;
  return MakeError(Reason::CHUNK_CORRUPT, absl::StrCat("blob ", id.Hex(), " is missing"), {{"blob", id.Hex()}});
}

absl::StatusOr<std::shared_ptr<const ReadableFile>> MemoryBlobStore::OpenStored(const BlobId& id) {
  SCONCE_ASSIGN_OR_RETURN(std::shared_ptr<const Blob> blob, Open(id));
  return std::make_shared<const StoredFile>(std::move(blob));
}

absl::Status MemoryBlobStore::Remove(const BlobId& id) {
  MutexLock lock(&mu_);
  if (const auto unsealed = unsealed_.find(id); unsealed != unsealed_.end()) {
    reserved_bytes_ -= static_cast<int64_t>(unsealed->second.size());
    unsealed_.erase(unsealed);
  }
  const auto found = sealed_.find(id);
  if (found == sealed_.end()) return absl::OkStatus();
  reserved_bytes_ -= found->second->size_bytes();
  sealed_.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<BlobId>> MemoryBlobStore::List() {
  MutexLock lock(&mu_);
  std::vector<BlobId> ids;
  for (const auto& [id, blob] : sealed_) ids.push_back(id);
  return ids;
}

absl::Status MemoryBlobStore::DropUnsealed(const std::function<bool(const BlobId&)>& resumable) {
  std::vector<BlobId> unsealed;
  {
    MutexLock lock(&mu_);
    for (const auto& [id, content] : unsealed_) unsealed.push_back(id);
    to_sort_.clear();
    for (auto it = sealed_.rbegin(); it != sealed_.rend(); ++it) to_sort_.push_back(it->first);
  }
  for (const BlobId& id : unsealed) {
    if (!resumable(id)) SCONCE_RETURN_IF_ERROR(Remove(id));
  }
  return absl::OkStatus();
}

absl::StatusOr<SortStep> MemoryBlobStore::SortSealed(const KnownBlobs& known, int64_t at_most) {
  std::vector<BlobId> blobs;
  {
    MutexLock lock(&mu_);
    const size_t some = std::min(to_sort_.size(), static_cast<size_t>(at_most));
    blobs.assign(to_sort_.rbegin(), to_sort_.rbegin() + static_cast<ptrdiff_t>(some));
  }
  SortStep step;
  step.looked_at = static_cast<int64_t>(blobs.size());
  step.ended = blobs.empty();
  if (step.ended) return step;
  SCONCE_ASSIGN_OR_RETURN(const std::vector<bool> are_known, known(blobs));
  for (size_t i = 0; i < blobs.size(); ++i) {
    if (are_known[i]) continue;
    SCONCE_RETURN_IF_ERROR(Remove(blobs[i]));
    ++step.moved;
  }
  MutexLock lock(&mu_);
  to_sort_.resize(to_sort_.size() - blobs.size());
  return step;
}

BlobStats MemoryBlobStore::GetStats() const {
  MutexLock lock(&mu_);
  BlobStats stats;
  stats.complete = to_sort_.empty();
  for (const auto& [id, blob] : sealed_) {
    ++stats.blobs;
    stats.physical_bytes += blob->size_bytes();
  }
  return stats;
}

void MemoryBlobStore::CorruptForTest(const BlobId& id, int64_t offset) {
  MutexLock lock(&mu_);
  const auto found = sealed_.find(id);
  SCONCE_CHECK(found != sealed_.end());
  static_cast<const MemoryBlob&>(*found->second).FlipBit(offset);
}

void MemoryBlobStore::SetCapacityForTest(int64_t bytes) {
  MutexLock lock(&mu_);
  capacity_bytes_ = bytes;
}

}  // namespace sconce::blob
