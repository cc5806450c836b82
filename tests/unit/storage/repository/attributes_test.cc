#include "storage/repository/attributes.h"

#include <cmath>
#include <limits>

#include "tests/support/status_matchers.h"

namespace sconce::repository {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(AttributesTest, TheTreeFillsInWhatIsNotGiven) {
  PushOptions given;
  given.step = 10;
  given.metrics = {{"acc", 0.5}};
  format::TreeAttributes tree;
  tree.epoch = 3;
  tree.metrics = {{"loss", 0.25}};
  ASSERT_OK_AND_ASSIGN(const Attributes merged, MergeAttributes(given, tree));
  EXPECT_EQ(merged.epoch, 3);
  EXPECT_EQ(merged.step, 10);
  EXPECT_EQ(merged.metrics, (Metrics{{"acc", 0.5}, {"loss", 0.25}}));
}

TEST(AttributesTest, EqualValuesAgreeAndOthersConflict) {
  PushOptions given;
  given.epoch = 3;
  given.metrics = {{"loss", kNan}, {"zero", -0.0}};
  format::TreeAttributes tree;
  tree.epoch = 3;
  tree.metrics = {{"loss", kNan}, {"zero", 0.0}};
  ASSERT_OK(MergeAttributes(given, tree));
  tree.epoch = 4;
  EXPECT_THAT(MergeAttributes(given, tree),
              FailsWith(Reason::ATTRIBUTE_CONFLICT, AllOf(HasSubstr("epoch"), HasSubstr("3"), HasSubstr("4"))));
  tree.epoch = 3;
  tree.metrics["loss"] = 0.5;
  EXPECT_THAT(MergeAttributes(given, tree), FailsWith(Reason::ATTRIBUTE_CONFLICT, HasSubstr("0.5")));
}

TEST(AttributesTest, MetricsOfTheTreeThatCannotBeKeptAreLeftOut) {
  format::TreeAttributes tree;
  tree.metrics = {{"", 1}, {"a\nb", 2}, {"\xed\xa0\x80", 3}, {"good", 4}};
  ASSERT_OK_AND_ASSIGN(const Attributes merged, MergeAttributes({}, tree));
  EXPECT_EQ(merged.metrics, (Metrics{{"good", 4}}));
  for (int i = 0; i < 2000; ++i) tree.metrics[std::to_string(i)] = i;
  ASSERT_OK_AND_ASSIGN(const Attributes many, MergeAttributes({}, tree));
  EXPECT_EQ(many.metrics.size(), 1000u);
}

}  // namespace
}  // namespace sconce::repository
