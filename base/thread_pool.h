#ifndef SCONCE_BASE_THREAD_POOL_H_
#define SCONCE_BASE_THREAD_POOL_H_

#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"

namespace sconce {

// A fixed number of threads that run tasks in the order given, from a queue of bounded length. Thread-safe.
// The destructor runs what is queued, then joins.
class ThreadPool {
 public:
  using Task = absl::AnyInvocable<void()>;

  // `name` shows in `top -H` (at most 15 bytes).
  ThreadPool(const std::string& name, int threads, size_t queue_limit);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // False, and `task` is dropped unrun, when the queue is full: answer UNAVAILABLE.
  [[nodiscard]] bool TrySubmit(Task task);
  // Waits for room in the queue. Never call it from one of this pool's own tasks.
  void Submit(Task task);

 private:
  void Work();

  const size_t queue_limit_;
  Mutex mu_;
  CondVar not_empty_;
  CondVar not_full_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // constant after construction
};

}  // namespace sconce

#endif  // SCONCE_BASE_THREAD_POOL_H_
