#ifndef SCONCE_SERVER_INFERENCE_BATCH_TIMER_H_
#define SCONCE_SERVER_INFERENCE_BATCH_TIMER_H_

#include <memory>
#include <thread>

#include "absl/time/time.h"

namespace sconce::inference {

// What a BatchTimer wakes.
class Ticked {
 public:
  virtual ~Ticked() = default;
  // From the timer's thread; must not block.
  virtual void Tick() = 0;
};

// One thread that wakes batchers when the first of a batch has waited long enough, or a request's time is up.
// Thread-safe. Shared by those it wakes, and may be destroyed by any thread, its own too.
class BatchTimer {
 public:
  BatchTimer();
  ~BatchTimer();
  BatchTimer(const BatchTimer&) = delete;
  BatchTimer& operator=(const BatchTimer&) = delete;

  // Calls target->Tick() at `when` or soon afterwards, unless it is gone by then. Each call is for one tick.
  void Set(absl::Time when, std::weak_ptr<Ticked> target);

 private:
  struct State;

  const std::shared_ptr<State> state_;  // shared with the thread
  std::thread thread_;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_BATCH_TIMER_H_
