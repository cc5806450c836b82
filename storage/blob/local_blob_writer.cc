#include "storage/blob/local_blob_writer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/blob/footer.h"

namespace sconce::blob {
namespace {

int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

absl::Status Misuse(absl::string_view what) {
  return MakeError(Reason::INTERNAL_ERROR, absl::StrCat("a blob was written wrongly: ", what, "; report this bug"));
}

}  // namespace

LocalBlobWriter::~LocalBlobWriter() {
  // Best effort: what stays behind is dropped by the next Recover.
  if (!published_ && !resumable_) store_.fs_->Remove(store_.paths_.PartPath(id_)).IgnoreError();
}

absl::Status LocalBlobWriter::Remember(absl::Status status) {
  if (status.ok()) return status;
  MutexLock lock(&mu_);
  if (failure_.ok()) failure_ = status;
  return status;
}

absl::Status LocalBlobWriter::CheckOpen() const {
  SCONCE_RETURN_IF_ERROR(failure_);
  return footer_offset_.has_value() ? Misuse("a chunk came after the footer's place was asked for") : absl::OkStatus();
}

absl::Status LocalBlobWriter::Write(int64_t offset, ByteSpan pages) {
  const auto size_bytes = static_cast<int64_t>(pages.size());
  SCONCE_RETURN_IF_ERROR(store_.CheckRoom(size_bytes, min_free_bytes_));
  written_bytes_ += size_bytes;
  return file_->WriteAt(offset, pages);
}

absl::Status LocalBlobWriter::Flush(PackRegion& region) {
  const int64_t begin = region.flushed_bytes;
  const int64_t padded = RoundUp(region.used_bytes, kDirectAlignment);
  if (padded == begin) return absl::OkStatus();
  std::memset(region.buffer.data() + region.used_bytes, 0, static_cast<size_t>(padded - region.used_bytes));
  region.flushed_bytes = padded;
  return Write(region.offset + begin, ByteSpan(region.buffer.data() + begin, static_cast<size_t>(padded - begin)));
}

absl::StatusOr<int64_t> LocalBlobWriter::Append(AlignedBuffer& buffer, int64_t size_bytes, bool mappable) {
  if (size_bytes <= 0 || size_bytes > buffer.capacity()) return Misuse("a chunk has a size its buffer cannot hold");
  if (!mappable && size_bytes < kMappableBytes) {
    return AppendPacked(ByteSpan(buffer.data(), static_cast<size_t>(size_bytes)));
  }
  const int64_t padded = RoundUp(size_bytes, kDirectAlignment);
  int64_t offset;
  {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(CheckOpen());
    offset = std::exchange(end_, end_ + padded);
  }
  std::memset(buffer.data() + size_bytes, 0, static_cast<size_t>(padded - size_bytes));
  SCONCE_RETURN_IF_ERROR(Remember(Write(offset, ByteSpan(buffer.data(), static_cast<size_t>(padded)))));
  return offset;
}

absl::StatusOr<int64_t> LocalBlobWriter::AppendPacked(ByteSpan data) {
  const auto size_bytes = static_cast<int64_t>(data.size());
  if (size_bytes == 0 || size_bytes >= kMappableBytes) return Misuse("a packed chunk has a size not meant for it");
  int64_t offset;
  std::unique_ptr<PackRegion> full;  // written after the lock is released
  {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(CheckOpen());
    if (pack_ == nullptr || pack_->used_bytes + size_bytes > pack_->reserved_bytes) {
      full = std::move(pack_);
      if (full != nullptr) ++flushing_;
      pack_ = std::make_unique<PackRegion>(end_, next_pack_bytes_);
      end_ += next_pack_bytes_;
      next_pack_bytes_ = std::min(next_pack_bytes_ * 2, kPackBytes);
    }
    uint8_t* at = pack_->buffer.data() + pack_->used_bytes;
    const int64_t padded = RoundUp(size_bytes, kPackAlignment);
    std::memcpy(at, data.data(), data.size());
    std::memset(at + size_bytes, 0, static_cast<size_t>(padded - size_bytes));
    offset = pack_->offset + std::exchange(pack_->used_bytes, pack_->used_bytes + padded);
  }
  if (full == nullptr) return offset;
  const absl::Status written = Remember(Flush(*full));
  {
    MutexLock lock(&mu_);
    if (--flushing_ == 0) flushed_.SignalAll();
  }
  SCONCE_RETURN_IF_ERROR(written);
  return offset;
}

absl::Status LocalBlobWriter::Sync() {
  std::unique_ptr<AlignedBuffer> pages;  // a copy: others go on filling the region
  int64_t offset = 0;
  {
    MutexLock lock(&mu_);
    while (flushing_ > 0) flushed_.Wait(&mu_);
    SCONCE_RETURN_IF_ERROR(CheckOpen());
    if (pack_ != nullptr && pack_->used_bytes > pack_->flushed_bytes) {
      PackRegion& region = *pack_;
      const int64_t begin = region.flushed_bytes, padded = RoundUp(region.used_bytes, kDirectAlignment);
      std::memset(region.buffer.data() + region.used_bytes, 0, static_cast<size_t>(padded - region.used_bytes));
      pages = std::make_unique<AlignedBuffer>(padded - begin);
      std::memcpy(pages->data(), region.buffer.data() + begin, static_cast<size_t>(padded - begin));
      offset = region.offset + begin;
      // The next chunk starts a page of its own: what is durable is never written again.
      region.used_bytes = padded;
      region.flushed_bytes = padded;
    }
  }
  if (pages != nullptr) {
    SCONCE_RETURN_IF_ERROR(Remember(Write(offset, ByteSpan(pages->data(), static_cast<size_t>(pages->capacity())))));
  }
  SCONCE_RETURN_IF_ERROR(Remember(file_->Sync()));
  if (named_) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(Remember(store_.fs_->SyncDirectory(store_.paths_.UploadsDir())));
  named_ = true;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> LocalBlobWriter::FooterOffset() {
  std::unique_ptr<PackRegion> inner;  // a pack region that other chunks follow
  int64_t footer_offset;
  {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(failure_);
    if (footer_offset_.has_value()) return *footer_offset_;
    if (pack_ != nullptr && pack_->offset + pack_->reserved_bytes == end_) {
      tail_ = std::move(pack_);  // nothing follows it: the footer goes on right behind its last chunk
      footer_offset = tail_->offset + tail_->used_bytes;
    } else {
      inner = std::move(pack_);
      tail_ = std::make_unique<PackRegion>(end_, kPackBytes);
      footer_offset = end_;
    }
    footer_offset_ = footer_offset;
  }
  if (inner != nullptr) SCONCE_RETURN_IF_ERROR(Remember(Flush(*inner)));
  return footer_offset;
}

absl::Status LocalBlobWriter::WriteTail(ByteSpan bytes) {
  while (!bytes.empty()) {
    if (tail_->used_bytes == kPackBytes) {
      SCONCE_RETURN_IF_ERROR(Flush(*tail_));
      tail_->offset += kPackBytes;
      tail_->used_bytes = 0;
      tail_->flushed_bytes = 0;
    }
    const size_t n = std::min(bytes.size(), static_cast<size_t>(kPackBytes - tail_->used_bytes));
    std::memcpy(tail_->buffer.data() + tail_->used_bytes, bytes.data(), n);
    tail_->used_bytes += static_cast<int64_t>(n);
    bytes.remove_prefix(n);
  }
  return absl::OkStatus();
}

absl::Status LocalBlobWriter::WriteFooter(ByteSpan footer) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t footer_offset, FooterOffset());
  const auto footer_size = static_cast<int64_t>(footer.size());
  Trailer trailer;
  trailer.id = id_;
  trailer.file_size_bytes = SealedSize(footer_offset, footer_size);
  trailer.footer_offset = footer_offset;
  trailer.footer_size_bytes = footer_size;
  trailer.footer_xxh3 = Xxh3(footer);

  static constexpr std::array<uint8_t, kDirectAlignment> kZeros{};
  const int64_t gap = trailer.file_size_bytes - footer_offset - footer_size - kTrailerBytes;
  SCONCE_RETURN_IF_ERROR(WriteTail(footer));
  SCONCE_RETURN_IF_ERROR(WriteTail(ByteSpan(kZeros).first(static_cast<size_t>(gap))));
  SCONCE_RETURN_IF_ERROR(WriteTail(EncodeTrailer(trailer)));
  return Flush(*tail_);
}

absl::Status LocalBlobWriter::Seal(ByteSpan footer) {
  if (published_) return Misuse("it was sealed twice");
  SCONCE_RETURN_IF_ERROR(Remember(WriteFooter(footer)));
  if (!resumable_) SCONCE_RETURN_IF_ERROR(Remember(file_->SetMode(0440)));
  SCONCE_RETURN_IF_ERROR(Remember(file_->Sync()));
  int64_t allocated_bytes = written_bytes_;
  if (resumable_) {
    // Written in many stretches, it may take blocks of the file system's own beside those of its bytes.
    SCONCE_ASSIGN_OR_RETURN(const auto written, store_.fs_->OpenRead(store_.paths_.PartPath(id_)));
    allocated_bytes = written->allocated_bytes();
  }
  SCONCE_RETURN_IF_ERROR(Remember(store_.Publish(id_, allocated_bytes, resumable_)));
  published_ = true;
  tail_.reset();
  // A resumable one may have to be opened for writing again until it has its new name. The mode only guards against
  // slips of an operator, so a failure here does no harm.
  if (resumable_) file_->SetMode(0440).IgnoreError();
  return absl::OkStatus();
}

}  // namespace sconce::blob
