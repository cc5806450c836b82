#include "storage/repository/chunk_feed.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status_macros.h"

namespace sconce::repository {
namespace {

// Small chunks are worked on together, this many bytes at a time: a task each would cost more than the work.
constexpr size_t kSmallBatchBytes = size_t{512} << 10;

}  // namespace

ChunkFeed::ChunkFeed(IngestPool& pool, const ChunkLayout& layout, Work work)
    : pool_(pool), layout_(layout), work_(std::move(work)) {}

ChunkFeed::~ChunkFeed() {
  MutexLock lock(&mu_);
  error_.Update(absl::CancelledError("the push was dropped"));  // what is queued does nothing
  while (in_work_ > 0) idle_.Wait(&mu_);
  if (buffer_ != nullptr) pool_.GiveBack(std::move(buffer_));
}

absl::Status ChunkFeed::FirstError() {
  MutexLock lock(&mu_);
  return error_;
}

absl::Status ChunkFeed::Write(ByteSpan bytes) {
  SCONCE_RETURN_IF_ERROR(FirstError());
  while (!bytes.empty()) {
    const ChunkLayout::Entry entry = layout_.At(chunk_);
    if (entry.small) {
      WriteSmall(entry, bytes);
    } else {
      WriteLarge(entry, bytes);
    }
  }
  return absl::OkStatus();
}

void ChunkFeed::NextChunk() {
  ++chunk_;
  filled_ = 0;
}

void ChunkFeed::WriteSmall(const ChunkLayout::Entry& entry, ByteSpan& bytes) {
  const ByteSpan taken = bytes.subspan(0, static_cast<size_t>(entry.size_bytes - filled_));
  bytes.remove_prefix(taken.size());
  small_.insert(small_.end(), taken.begin(), taken.end());
  filled_ += static_cast<int64_t>(taken.size());
  if (filled_ < entry.size_bytes) return;
  small_chunks_.push_back({chunk_, static_cast<int64_t>(small_.size()) - entry.size_bytes, entry.size_bytes});
  NextChunk();
  if (small_.size() >= kSmallBatchBytes) SubmitSmall();
}

void ChunkFeed::WriteLarge(const ChunkLayout::Entry& entry, ByteSpan& bytes) {
  if (buffer_ == nullptr) buffer_ = pool_.TakeBuffer();
  const ByteSpan taken = bytes.subspan(0, static_cast<size_t>(entry.size_bytes - filled_));
  bytes.remove_prefix(taken.size());
  std::memcpy(buffer_->data() + filled_, taken.data(), taken.size());
  filled_ += static_cast<int64_t>(taken.size());
  if (filled_ < entry.size_bytes) return;
  const FedChunk whole{chunk_, 0, entry.size_bytes};
  NextChunk();
  Submit([this, whole, buffer = std::move(buffer_)]() mutable {
    const ByteSpan content(buffer->data(), static_cast<size_t>(whole.size_bytes));
    absl::Status status = work_(absl::MakeConstSpan(&whole, 1), content, buffer.get());
    pool_.GiveBack(std::move(buffer));
    return status;
  });
}

void ChunkFeed::SubmitSmall() {
  // Of an unfinished last chunk the bytes stay here.
  const auto whole = static_cast<size_t>(small_chunks_.back().begin + small_chunks_.back().size_bytes);
  std::vector<uint8_t> rest(small_.begin() + static_cast<ptrdiff_t>(whole), small_.end());
  small_.resize(whole);
  Submit([this, bytes = std::exchange(small_, std::move(rest)), chunks = std::exchange(small_chunks_, {})]() {
    return work_(chunks, bytes, nullptr);
  });
}

void ChunkFeed::Submit(absl::AnyInvocable<absl::Status()> task) {
  {
    MutexLock lock(&mu_);
    ++in_work_;
  }
  pool_.Submit([this, task = std::move(task)]() mutable {
    absl::Status status = FirstError();
    if (status.ok()) status = task();
    task = nullptr;  // its memory goes before the push may end
    MutexLock lock(&mu_);
    error_.Update(status);
    if (--in_work_ == 0) idle_.SignalAll();
  });
}

absl::Status ChunkFeed::Flush() {
  SCONCE_RETURN_IF_ERROR(FirstError());
  if (!small_chunks_.empty()) SubmitSmall();
  MutexLock lock(&mu_);
  while (in_work_ > 0) idle_.Wait(&mu_);
  return error_;
}

}  // namespace sconce::repository
