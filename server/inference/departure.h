#ifndef SCONCE_SERVER_INFERENCE_DEPARTURE_H_
#define SCONCE_SERVER_INFERENCE_DEPARTURE_H_

#include <memory>

#include "base/mutex.h"

namespace sconce::inference {

// Tells when a model that was unloaded is out of memory: its last request answered and what ran it gone. Thread-safe.
class Departure {
 public:
  // For whatever holds memory of the model: it is gone when the last copy is. Once.
  static std::shared_ptr<void> PresenceOf(const std::shared_ptr<Departure>& departure) {
    return {nullptr, [departure](void*) { departure->End(); }};
  }

  // Returns when it is gone, or Cancel was called.
  void Wait() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(&mu_);
    while (!over_) changed_.Wait(&mu_);
  }
  void Cancel() ABSL_LOCKS_EXCLUDED(mu_) { End(); }

 private:
  void End() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(&mu_);
    over_ = true;
    changed_.SignalAll();
  }

  Mutex mu_;
  CondVar changed_;
  bool over_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_DEPARTURE_H_
