#include "server/inference/version_policy.h"

#include <gtest/gtest.h>

namespace sconce::inference {
namespace {

TEST(VersionPolicyTest, LoadsWhatIsWantedAndNotThere) {
  EXPECT_EQ(NextAction({3, 0, 0, 0}), VersionAction::kLoad);
  EXPECT_EQ(NextAction({3, 2, 0, 0}), VersionAction::kLoad);
  EXPECT_EQ(NextAction({2, 3, 0, 0}), VersionAction::kLoad);  // best may go back
  EXPECT_EQ(NextAction({3, 2, 0, 1}), VersionAction::kLoad);
}

TEST(VersionPolicyTest, DoesNothingWhenThereIsNothingToDo) {
  EXPECT_EQ(NextAction({0, 2, 0, 0}), VersionAction::kNothing);
  EXPECT_EQ(NextAction({3, 3, 0, 0}), VersionAction::kNothing);
}

TEST(VersionPolicyTest, PreparesOneVersionAtATime) {
  EXPECT_EQ(NextAction({4, 2, 3, 0}), VersionAction::kNothing);
}

TEST(VersionPolicyTest, DoesNotTryARefusedVersionAgain) {
  EXPECT_EQ(NextAction({3, 2, 0, 3}), VersionAction::kNothing);
}

}  // namespace
}  // namespace sconce::inference
