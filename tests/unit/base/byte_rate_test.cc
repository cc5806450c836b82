#include "base/byte_rate.h"

#include <gtest/gtest.h>

namespace sconce {
namespace {

class TurnedClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Turn(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_ = absl::UnixEpoch();
};

TEST(ByteRateTest, BytesArePaidForOneAfterTheOther) {
  TurnedClock clock;
  ByteRate rate(100, clock);
  EXPECT_EQ(rate.Take(50), absl::Milliseconds(500));
  EXPECT_EQ(rate.Take(50), absl::Seconds(1));  // nobody waited in between
  clock.Turn(absl::Seconds(1));
  EXPECT_EQ(rate.Take(10), absl::Milliseconds(100));
}

TEST(ByteRateTest, TimeNotUsedIsNotSavedUp) {
  TurnedClock clock;
  ByteRate rate(100, clock);
  clock.Turn(absl::Hours(1));
  EXPECT_EQ(rate.Take(100), absl::Seconds(1));
}

TEST(ByteRateTest, ZeroIsNoLimit) {
  TurnedClock clock;
  ByteRate rate(0, clock);
  EXPECT_EQ(rate.Take(int64_t{1} << 60), absl::ZeroDuration());
}

}  // namespace
}  // namespace sconce
