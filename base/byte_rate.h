#ifndef SCONCE_BASE_BYTE_RATE_H_
#define SCONCE_BASE_BYTE_RATE_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "base/clock.h"

namespace sconce {

// Keeps background work below so many bytes a second. It never sleeps: it says how long to wait, and whoever works
// waits in a way that can be interrupted. Not thread-safe.
class ByteRate {
 public:
  // 0 bytes a second: no limit. `clock` outlives this.
  ByteRate(int64_t bytes_per_second, const Clock& clock) : bytes_per_second_(bytes_per_second), clock_(clock) {}

  // Counts bytes just moved; the value is how long to wait before moving more. Time not used is not saved up.
  absl::Duration Take(int64_t bytes) {
    if (bytes_per_second_ <= 0) return absl::ZeroDuration();
    const absl::Time now = clock_.Now();
    next_ = std::max(next_, now) + absl::Seconds(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_));
    return next_ - now;
  }

 private:
  const int64_t bytes_per_second_;
  const Clock& clock_;
  absl::Time next_ = absl::InfinitePast();  // when the bytes taken so far are paid for
};

}  // namespace sconce

#endif  // SCONCE_BASE_BYTE_RATE_H_
