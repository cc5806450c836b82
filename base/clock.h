#ifndef SCONCE_BASE_CLOCK_H_
#define SCONCE_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sconce {

// Where time comes from. Tests inject one they can turn.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace sconce

#endif  // SCONCE_BASE_CLOCK_H_
