#include "client/cpp/retry_policy.h"

#include <algorithm>
#include <random>

#include "absl/time/clock.h"

namespace sconce::client {

bool RetryLoop::ShouldRetry(const absl::Status& status) {
  if (!RetryPolicy::IsTransient(status)) return false;
  if (++attempts_ >= policy_.max_attempts) return false;
  absl::Duration ceiling = policy_.initial_backoff;
  for (int i = 1; i < attempts_ && ceiling < policy_.max_backoff; ++i) ceiling *= 2;
  ceiling = std::min(ceiling, policy_.max_backoff);
  thread_local std::mt19937_64 random{std::random_device{}()};
  const absl::Duration wait = ceiling * std::uniform_real_distribution<double>(0, 1)(random);
  if (policy_.sleep) {
    policy_.sleep(wait);
  } else {
    absl::SleepFor(wait);
  }
  return true;
}

}  // namespace sconce::client
