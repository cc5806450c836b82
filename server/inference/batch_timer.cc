#include "server/inference/batch_timer.h"

#include <pthread.h>

#include <map>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/mutex.h"

namespace sconce::inference {

struct BatchTimer::State {
  Mutex mu;
  CondVar wake;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  std::multimap<absl::Time, std::weak_ptr<Ticked>> due ABSL_GUARDED_BY(mu);

  // What is due by now, taken out; waits for it. Empty: stopping.
  std::vector<std::weak_ptr<Ticked>> Await() ABSL_LOCKS_EXCLUDED(mu) {
    MutexLock lock(&mu);
    std::vector<std::weak_ptr<Ticked>> ready;
    while (!stopping && ready.empty()) {
      const absl::Time now = absl::Now();
      while (!due.empty() && due.begin()->first <= now) {
        ready.push_back(std::move(due.begin()->second));
        due.erase(due.begin());
      }
      if (!ready.empty()) break;
      if (due.empty()) {
        wake.Wait(&mu);
      } else {
        wake.WaitWithTimeout(&mu, due.begin()->first - now);
      }
    }
    if (stopping) ready.clear();
    return ready;
  }
};

BatchTimer::BatchTimer()
    : state_(std::make_shared<State>()), thread_([state = state_] {
        pthread_setname_np(pthread_self(), "batch-timer");
        for (;;) {
          const std::vector<std::weak_ptr<Ticked>> ready = state->Await();
          if (ready.empty()) return;
          for (const std::weak_ptr<Ticked>& target : ready) {
            if (const std::shared_ptr<Ticked> held = target.lock()) held->Tick();
          }
        }
      }) {}

BatchTimer::~BatchTimer() {
  {
    MutexLock lock(&state_->mu);
    state_->stopping = true;
    state_->wake.SignalAll();
  }
  // The last of those it wakes may die of its tick, and take the timer along: the thread then ends by itself.
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void BatchTimer::Set(absl::Time when, std::weak_ptr<Ticked> target) {
  MutexLock lock(&state_->mu);
  const bool first = state_->due.empty() || when < state_->due.begin()->first;
  state_->due.emplace(when, std::move(target));
  if (first) state_->wake.Signal();
}

}  // namespace sconce::inference
