#ifndef SCONCE_CLIENT_CPP_RETRY_POLICY_H_
#define SCONCE_CLIENT_CPP_RETRY_POLICY_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sconce::client {

// When a call is tried again, and how long it waits before: full jitter under an exponential ceiling.
struct RetryPolicy {
  int max_attempts = 5;  // the first one included; 1: never again
  absl::Duration initial_backoff = absl::Milliseconds(200);
  absl::Duration max_backoff = absl::Seconds(5);
  // How waiting is done; tests replace it.
  std::function<void(absl::Duration)> sleep;

  // Only UNAVAILABLE passes by itself; every other error would come again.
  static bool IsTransient(const absl::Status& status) { return status.code() == absl::StatusCode::kUnavailable; }
};

// Counts the attempts of one call.
class RetryLoop {
 public:
  explicit RetryLoop(const RetryPolicy& policy) : policy_(policy) {}
  // True, after having waited, when the call that ended with `status` should be tried again.
  bool ShouldRetry(const absl::Status& status);
  // Progress was made: count from the start again.
  void Reset() { attempts_ = 0; }

 private:
  const RetryPolicy& policy_;
  int attempts_ = 0;
};

}  // namespace sconce::client

#endif  // SCONCE_CLIENT_CPP_RETRY_POLICY_H_
