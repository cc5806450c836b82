#include "base/thread_pool.h"

#include <pthread.h>

#include <utility>

namespace sconce {

ThreadPool::ThreadPool(const std::string& name, int threads, size_t queue_limit) : queue_limit_(queue_limit) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Work(); });
    pthread_setname_np(threads_.back().native_handle(), name.substr(0, 15).c_str());
  }
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    not_empty_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

bool ThreadPool::TrySubmit(Task task) {
  MutexLock lock(&mu_);
  if (queue_.size() >= queue_limit_) return false;
  queue_.push_back(std::move(task));
  not_empty_.Signal();
  return true;
}

void ThreadPool::Submit(Task task) {
  MutexLock lock(&mu_);
  while (queue_.size() >= queue_limit_) not_full_.Wait(&mu_);
  queue_.push_back(std::move(task));
  not_empty_.Signal();
}

void ThreadPool::Work() {
  while (true) {
    Task task;
    {
      MutexLock lock(&mu_);
      while (queue_.empty() && !stopping_) not_empty_.Wait(&mu_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
      not_full_.Signal();
    }
    task();
  }
}

}  // namespace sconce
