#ifndef SCONCE_STORAGE_REPOSITORY_INGEST_POOL_H_
#define SCONCE_STORAGE_REPOSITORY_INGEST_POOL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "storage/blob/aligned_buffer.h"

namespace sconce::repository {

// The threads and the memory that all pushes, and all streams of uploads, share. Thread-safe; outlives every ChunkFeed.
//
// A push fills one buffer at a time, its own, however slowly its bytes come. A full one goes to the pool, which takes
// at most `buffers` at once; only that hand-over waits, and what it waits for (hashing, the disk) never waits for a
// push in turn. So pushes cannot block each other for ever, and memory stays below (buffers + max_pushes) * 4 MiB.
class IngestPool {
 public:
  // A place among the pushes in progress.
  class Slot {
   public:
    Slot(IngestPool& pool, std::function<void()> ended) : pool_(pool), ended_(std::move(ended)) {}
    ~Slot() {
      --pool_.pushes_;
      ended_();
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

   private:
    IngestPool& pool_;
    const std::function<void()> ended_;
  };

  IngestPool(int threads, int buffers, int max_pushes);

  // SERVER_OVERLOADED beyond max_pushes. The push is in progress until the slot dies, and then calls `ended`.
  absl::StatusOr<std::unique_ptr<Slot>> BeginPush(std::function<void()> ended);

  // Never waits for another push: from the free ones, else new.
  std::unique_ptr<blob::AlignedBuffer> TakeBuffer();
  void GiveBack(std::unique_ptr<blob::AlignedBuffer> buffer);

  // Waits while as much as the pool takes is in work.
  void Submit(ThreadPool::Task task) { threads_.Submit(std::move(task)); }

 private:
  const size_t max_free_;
  const int max_pushes_;
  std::atomic<int> pushes_{0};
  Mutex mu_;
  std::vector<std::unique_ptr<blob::AlignedBuffer>> free_ ABSL_GUARDED_BY(mu_);
  ThreadPool threads_;  // last: its threads use the rest
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_INGEST_POOL_H_
