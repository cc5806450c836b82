#include "storage/repository/pin_table.h"

namespace sconce::repository {

void PinTable::Pin(uint64_t project_uid, absl::Span<const Digest> chunks) {
  MutexLock lock(&mu_);
  for (const Digest& chunk : chunks) {
    const Key key(project_uid, chunk);
    for (auto it = pins_.find(key); it != pins_.end() && it->second == kCondemned; it = pins_.find(key)) {
      absolved_.Wait(&mu_);
    }
    ++pins_[key];
  }
}

void PinTable::Unpin(uint64_t project_uid, absl::Span<const Digest> chunks) {
  MutexLock lock(&mu_);
  for (const Digest& chunk : chunks) {
    const auto it = pins_.find(Key(project_uid, chunk));
    if (--it->second == 0) pins_.erase(it);
  }
}

std::vector<bool> PinTable::Condemn(uint64_t project_uid, absl::Span<const Digest> chunks) {
  std::vector<bool> condemned(chunks.size());
  MutexLock lock(&mu_);
  for (size_t i = 0; i < chunks.size(); ++i) {
    condemned[i] = pins_.emplace(Key(project_uid, chunks[i]), kCondemned).second;
  }
  return condemned;
}

void PinTable::Absolve(uint64_t project_uid, absl::Span<const Digest> chunks, const std::vector<bool>& condemned) {
  MutexLock lock(&mu_);
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (condemned[i]) pins_.erase(Key(project_uid, chunks[i]));
  }
  absolved_.SignalAll();
}

void PinSet::Add(absl::Span<const Digest> chunks) {
  table_.Pin(project_uid_, chunks);
  MutexLock lock(&mu_);
  chunks_.insert(chunks_.end(), chunks.begin(), chunks.end());
}

}  // namespace sconce::repository
