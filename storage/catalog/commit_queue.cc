#include "storage/catalog/commit_queue.h"

#include <pthread.h>

#include <utility>

namespace sconce::catalog {
namespace {

// A group ends at this many bytes of keys and values, so that the wait for one write stays bounded.
constexpr size_t kGroupBytes = size_t{8} << 20;

size_t Bytes(const ChangeSet& change) {
  size_t bytes = 0;
  for (const Condition& condition : change.conditions) bytes += condition.key.size();
  for (const auto& [key, value] : change.puts) bytes += key.size() + value.size();
  for (const std::string& key : change.deletes) bytes += key.size();
  for (const std::string& entry : change.log) bytes += entry.size();
  return bytes;
}

}  // namespace

CommitQueue::CommitQueue(Commit commit) : commit_(std::move(commit)), thread_([this] { Work(); }) {}

CommitQueue::~CommitQueue() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    queued_.SignalAll();
  }
  thread_.join();
}

absl::StatusOr<int64_t> CommitQueue::Submit(const ChangeSet& change) {
  PendingChange pending{&change, std::nullopt};
  MutexLock lock(&mu_);
  queue_.push_back(&pending);
  queued_.Signal();
  while (!pending.result) finished_.Wait(&mu_);
  return *std::move(pending.result);
}

void CommitQueue::Work() {
  ::pthread_setname_np(::pthread_self(), "committer");
  std::vector<PendingChange*> callers;
  std::vector<PendingChange> group;
  while (true) {
    callers.clear();
    group.clear();
    {
      MutexLock lock(&mu_);
      while (queue_.empty() && !stopping_) queued_.Wait(&mu_);
      if (queue_.empty()) return;
      for (size_t bytes = 0; !queue_.empty() && bytes < kGroupBytes; queue_.pop_front()) {
        callers.push_back(queue_.front());
        group.push_back({queue_.front()->change, std::nullopt});
        bytes += Bytes(*queue_.front()->change);
      }
    }
    commit_(group);
    MutexLock lock(&mu_);
    for (size_t i = 0; i < group.size(); ++i) callers[i]->result = std::move(group[i].result);
    finished_.SignalAll();
  }
}

}  // namespace sconce::catalog
