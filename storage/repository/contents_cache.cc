#include "storage/repository/contents_cache.h"

#include <algorithm>

namespace sconce::repository {

std::shared_ptr<const Contents> ContentsCache::Find(const Key& key) {
  MutexLock lock(&mu_);
  const auto it = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) {
    return entry.first.owner == key.owner && entry.first.generation == key.generation;
  });
  if (it == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, it);
  return it->second;
}

void ContentsCache::Insert(const Key& key, std::shared_ptr<const Contents> contents) {
  std::list<std::pair<Key, std::shared_ptr<const Contents>>> dropped;  // dies after the lock
  MutexLock lock(&mu_);
  entries_.emplace_front(key, std::move(contents));
  if (entries_.size() > kMaxEntries) dropped.splice(dropped.begin(), entries_, std::prev(entries_.end()));
}

void ContentsCache::Clear() {
  std::list<std::pair<Key, std::shared_ptr<const Contents>>> dropped;
  MutexLock lock(&mu_);
  dropped.swap(entries_);
}

}  // namespace sconce::repository
