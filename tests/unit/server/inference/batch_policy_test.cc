#include "server/inference/batch_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sconce::inference {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Time kStart = absl::UnixEpoch();

absl::Time At(int ms) {
  return kStart + absl::Milliseconds(ms);
}

BatchPolicy Policy(int64_t most, int delay_ms = 0) {
  BatchPolicy policy;
  policy.max_batch_size = most;
  policy.max_queue_delay = absl::Milliseconds(delay_ms);
  return policy;
}

TEST(BatchPolicyTest, WithoutBatchingTheOldestRunsAlone) {
  EXPECT_THAT(DecideBatch({{"a", 1, At(0)}, {"a", 1, At(0)}}, Policy(0, 100), At(0)).members, ElementsAre(0));
}

TEST(BatchPolicyTest, NothingWaitsNothingIsDue) {
  const BatchDecision decision = DecideBatch({}, Policy(8, 100), At(0));
  EXPECT_THAT(decision.members, IsEmpty());
  EXPECT_EQ(decision.look_again, absl::InfiniteFuture());
}

TEST(BatchPolicyTest, WithoutDelayAllThatWaitsGoesAtOnce) {
  EXPECT_THAT(DecideBatch({{"a", 1, At(0)}, {"a", 2, At(1)}, {"a", 1, At(2)}}, Policy(8), At(2)).members,
              ElementsAre(0, 1, 2));
}

TEST(BatchPolicyTest, TheFirstWaitsForOthersAsLongAsTheDelay) {
  const std::vector<Waiting> queue = {{"a", 1, At(0)}, {"a", 2, At(7)}};
  const BatchDecision early = DecideBatch(queue, Policy(8, 10), At(9));
  EXPECT_THAT(early.members, IsEmpty());
  EXPECT_EQ(early.look_again, At(10));
  EXPECT_THAT(DecideBatch(queue, Policy(8, 10), At(10)).members, ElementsAre(0, 1));
}

TEST(BatchPolicyTest, AFullBatchDoesNotWait) {
  EXPECT_THAT(DecideBatch({{"a", 3, At(0)}, {"a", 1, At(0)}, {"a", 1, At(0)}}, Policy(4, 100), At(0)).members,
              ElementsAre(0, 1));
}

TEST(BatchPolicyTest, ABatchThatTheNextOneDoesNotFitIsFull) {
  const auto decision = DecideBatch({{"a", 3, At(0)}, {"a", 2, At(0)}, {"a", 1, At(0)}}, Policy(4, 100), At(0));
  EXPECT_THAT(decision.members, ElementsAre(0));  // nobody overtakes within a key
}

TEST(BatchPolicyTest, OnlyEqualKeysRideTogether) {
  EXPECT_THAT(DecideBatch({{"a", 1, At(0)}, {"b", 1, At(0)}, {"a", 1, At(1)}}, Policy(8), At(1)).members,
              ElementsAre(0, 2));
}

TEST(BatchPolicyTest, AFullBatchOfALaterKeyGoesBeforeOneThatStillWaits) {
  EXPECT_THAT(DecideBatch({{"a", 1, At(0)}, {"b", 1, At(1)}, {"b", 1, At(1)}}, Policy(2, 100), At(1)).members,
              ElementsAre(1, 2));
}

TEST(BatchPolicyTest, OfThoseThatAreDueTheOldestGoesFirst) {
  const std::vector<Waiting> queue = {{"a", 1, At(0)}, {"b", 1, At(1)}, {"b", 1, At(1)}};
  EXPECT_THAT(DecideBatch(queue, Policy(2, 100), At(100)).members, ElementsAre(0));
}

TEST(BatchPolicyTest, OneWithoutAKeyDoesNotWait) {
  EXPECT_THAT(DecideBatch({{"a", 1, At(0)}, {"", 1, At(0)}, {"", 1, At(0)}}, Policy(8, 100), At(0)).members,
              ElementsAre(1));
}

}  // namespace
}  // namespace sconce::inference
