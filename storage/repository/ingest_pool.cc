#include "storage/repository/ingest_pool.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "storage/format/manifest.h"

namespace sconce::repository {

IngestPool::IngestPool(int threads, int buffers, int max_pushes)
    : max_free_(static_cast<size_t>(buffers)),
      max_pushes_(max_pushes),
      threads_("ingest", threads, static_cast<size_t>(std::max(1, buffers - threads))) {}

absl::StatusOr<std::unique_ptr<IngestPool::Slot>> IngestPool::BeginPush(std::function<void()> ended) {
  if (++pushes_ <= max_pushes_) return std::make_unique<Slot>(*this, std::move(ended));
  --pushes_;
  return MakeError(Reason::SERVER_OVERLOADED,
                   absl::StrCat("there are ", max_pushes_, " pushes in progress; try again when one has ended"));
}

std::unique_ptr<blob::AlignedBuffer> IngestPool::TakeBuffer() {
  {
    MutexLock lock(&mu_);
    if (!free_.empty()) {
      std::unique_ptr<blob::AlignedBuffer> buffer = std::move(free_.back());
      free_.pop_back();
      return buffer;
    }
  }
  return std::make_unique<blob::AlignedBuffer>(format::kChunkBytes);
}

void IngestPool::GiveBack(std::unique_ptr<blob::AlignedBuffer> buffer) {
  MutexLock lock(&mu_);
  if (free_.size() < max_free_) free_.push_back(std::move(buffer));
}

}  // namespace sconce::repository
