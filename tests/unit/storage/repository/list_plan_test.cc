#include "storage/repository/list_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "storage/catalog/keys.h"
#include "tests/support/status_matchers.h"

namespace sconce::repository {
namespace {

using catalog::LabelPrefix;
using catalog::LoserMetricPrefix;
using catalog::MetricPrefix;
using catalog::NumberField;
using catalog::NumberPrefix;
using catalog::PrefixEnd;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kRun = 5;
constexpr int64_t kLast = 1'000'000;
constexpr double kInf = std::numeric_limits<double>::infinity();

ListPlan Plan(const std::string& filter, const std::string& order_by = "") {
  const auto query = ParseCheckpointQuery(filter, order_by);
  EXPECT_OK(query) << filter;
  return PlanList(kRun, kLast, {{12, {"canary", "prod"}}}, query.value_or(CheckpointQuery()));
}

std::vector<std::string> Begins(const IndexSet& set) {
  std::vector<std::string> begins;
  for (const IndexRange& range : set.ranges) begins.push_back(range.begin);
  return begins;
}
std::vector<std::string> Ends(const IndexSet& set) {
  std::vector<std::string> ends;
  for (const IndexRange& range : set.ranges) ends.push_back(range.end);
  return ends;
}

TEST(ListPlanTest, WithoutAFilterTheRecordsAreRead) {
  const ListPlan plan = Plan("");
  EXPECT_THAT(plan.stream.ranges, IsEmpty());
  EXPECT_THAT(plan.sets, IsEmpty());
  EXPECT_EQ(plan.first_version, 1);
  EXPECT_EQ(plan.last_version, kLast);
}

TEST(ListPlanTest, OneValueOfAnIndexIsInTheOrderOfVersions) {
  const auto streams = [](const std::string& filter) { return Begins(Plan(filter).stream); };
  EXPECT_THAT(streams("labels.stage = final"), ElementsAre(LabelPrefix(kRun, "stage", "final")));
  EXPECT_THAT(streams("step = 7"), ElementsAre(NumberPrefix(kRun, NumberField::kStep, 7)));
  EXPECT_THAT(streams("epoch:7"), ElementsAre(NumberPrefix(kRun, NumberField::kEpoch, 7)));
  EXPECT_THAT(streams("metrics.loss = 0.5"),
              ElementsAre(MetricPrefix(kRun, "loss", 0.5), LoserMetricPrefix(kRun, "loss", 0.5)));
  EXPECT_THAT(streams("pinned = true"), ElementsAre(NumberPrefix(kRun, NumberField::kPinned, 1)));
  EXPECT_THAT(streams("pinned != false"), ElementsAre(NumberPrefix(kRun, NumberField::kPinned, 1)));
  EXPECT_THAT(streams("kind = OPAQUE"), ElementsAre(NumberPrefix(kRun, NumberField::kOpaque, 1)));
  EXPECT_THAT(streams("state:QUARANTINED"), ElementsAre(NumberPrefix(kRun, NumberField::kQuarantined, 1)));
  EXPECT_THAT(streams("labels.a = x OR labels.b = y"),
              ElementsAre(LabelPrefix(kRun, "a", "x"), LabelPrefix(kRun, "b", "y")));
  EXPECT_THAT(streams("step > 3 AND (labels.a = x AND -pinned = true)"), ElementsAre(LabelPrefix(kRun, "a", "x")));
}

TEST(ListPlanTest, WhatNoIndexHasIsLookedForInTheRecords) {
  for (const char* filter : {"pinned = false", "state = COMMITTED", "kind != OPAQUE", "state:*", "labels.a != x",
                             "NOT labels.a = x", "-(step = 1)", "labels.a = x OR NOT pinned = true",
                             "labels.a = x OR version > 5", "(labels.a = x AND step = 1) OR epoch = 2"}) {
    const ListPlan plan = Plan(filter);
    EXPECT_THAT(plan.stream.ranges, IsEmpty()) << filter;
    EXPECT_THAT(plan.sets, IsEmpty()) << filter;
  }
}

TEST(ListPlanTest, RangesAreSetsThatMayBeSmall) {
  const ListPlan plan = Plan("metrics.loss < 0.5 AND labels:stage AND step >= 10 AND step < 20");
  EXPECT_THAT(plan.stream.ranges, IsEmpty());
  ASSERT_EQ(plan.sets.size(), 3);
  EXPECT_THAT(Begins(plan.sets[0]), ElementsAre(MetricPrefix(kRun, "loss"), LoserMetricPrefix(kRun, "loss")));
  EXPECT_THAT(Ends(plan.sets[0]), ElementsAre(MetricPrefix(kRun, "loss", 0.5), LoserMetricPrefix(kRun, "loss", 0.5)));
  EXPECT_THAT(Begins(plan.sets[1]), ElementsAre(LabelPrefix(kRun, "stage")));
  EXPECT_THAT(Begins(plan.sets[2]), ElementsAre(NumberPrefix(kRun, NumberField::kStep, 10)));
  EXPECT_THAT(Ends(plan.sets[2]), ElementsAre(NumberPrefix(kRun, NumberField::kStep, 20)));
}

TEST(ListPlanTest, AContradictionIsAnEmptySet) {
  for (const char* filter : {"step = 5 AND step > 7", "labels.a > z AND labels.a < b", "aliases:nobody"}) {
    const ListPlan plan = Plan(filter);
    ASSERT_EQ(plan.sets.size(), 1) << filter;
    EXPECT_THAT(plan.sets[0].ranges, IsEmpty()) << filter;
    EXPECT_THAT(plan.sets[0].versions, IsEmpty()) << filter;
  }
}

TEST(ListPlanTest, VersionsAndAliasesAreKnownWithoutLooking) {
  EXPECT_THAT(Plan("aliases:prod").sets.at(0).versions, ElementsAre(12));
  EXPECT_THAT(Plan("version = 3 OR version = 9 OR aliases:prod").sets.at(0).versions, ElementsAre(3, 9, 12));
  const auto bounds = [](const std::string& filter) {
    const ListPlan plan = Plan(filter);
    return std::pair(plan.first_version, plan.last_version);
  };
  EXPECT_EQ(bounds("version > 10 AND version <= 20 AND pinned = false"), std::pair(int64_t{11}, int64_t{20}));
  EXPECT_EQ(bounds("version = 10"), std::pair(int64_t{10}, int64_t{10}));
  EXPECT_EQ(bounds("version >= -5 AND version < 2000000"), std::pair(int64_t{1}, kLast));
  EXPECT_EQ(bounds("version < -9223372036854775808").second, 0);
  EXPECT_EQ(bounds("version > 9223372036854775807").first, INT64_MAX);
  EXPECT_EQ(bounds("version > 10 OR version < 5"), std::pair(int64_t{1}, kLast));
}

TEST(ListPlanTest, AnOrderByValueReadsItsIndexAsFarAsConditionsOnItReach) {
  const ListPlan all = Plan("", "metrics.loss");
  EXPECT_THAT(Begins(all.stream), ElementsAre(MetricPrefix(kRun, "loss"), LoserMetricPrefix(kRun, "loss")));
  EXPECT_THAT(Ends(all.stream), ElementsAre(PrefixEnd(MetricPrefix(kRun, "loss", kInf)),
                                            PrefixEnd(LoserMetricPrefix(kRun, "loss", kInf))));
  const ListPlan some =
      Plan("metrics.loss >= 1 AND metrics.loss < 2 AND metrics.acc > 0 AND labels.a = x", "metrics.loss desc");
  EXPECT_THAT(Begins(some.stream), ElementsAre(MetricPrefix(kRun, "loss", 1), LoserMetricPrefix(kRun, "loss", 1)));
  EXPECT_THAT(Ends(some.stream), ElementsAre(MetricPrefix(kRun, "loss", 2), LoserMetricPrefix(kRun, "loss", 2)));
  EXPECT_EQ(some.sets.size(), 2);
  EXPECT_THAT(Begins(Plan("step > 1", "create_time").stream),
              ElementsAre(NumberPrefix(kRun, NumberField::kCreateTime)));
  EXPECT_EQ(Plan("version > 999990", "step").sets.at(0).versions.size(), 10);
}

}  // namespace
}  // namespace sconce::repository
