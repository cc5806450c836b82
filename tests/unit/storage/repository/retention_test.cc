#include "storage/repository/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kHour = int64_t{3600} * 1'000'000'000;
constexpr int64_t kNow = 1000 * kHour;

// Versions 1 to n, one an hour, the last just now.
std::vector<VersionFacts> Versions(int64_t n) {
  std::vector<VersionFacts> versions(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    versions[static_cast<size_t>(i)].version = i + 1;
    versions[static_cast<size_t>(i)].create_time_ns = kNow - (n - 1 - i) * kHour;
  }
  return versions;
}

std::vector<int64_t> Deleted(const RetentionContext& context, const std::vector<VersionFacts>& versions) {
  std::vector<int64_t> deleted;
  for (const RetentionVerdict& verdict : DecideRetention(context, versions)) {
    if (verdict.deleted()) deleted.push_back(verdict.version);
  }
  return deleted;
}

RetentionReason ReasonOf(const RetentionContext& context, const std::vector<VersionFacts>& versions, int64_t version) {
  for (const RetentionVerdict& verdict : DecideRetention(context, versions)) {
    if (verdict.version == version) return verdict.reason;
  }
  ADD_FAILURE() << "no verdict on " << version;
  return RetentionReason::kUnwanted;
}

RetentionContext Context(RetentionRule rule, MetricGoal goal = MetricGoal::kMinimize) {
  return {rule, goal, kNow, 0};
}

TEST(RetentionTest, NoRuleKeepsAll) {
  EXPECT_THAT(Deleted(Context({}), Versions(5)), IsEmpty());
  EXPECT_EQ(ReasonOf(Context({}), Versions(5), 1), RetentionReason::kNoRules);
  EXPECT_THAT(DecideRetention(Context({}), {}), IsEmpty());
}

TEST(RetentionTest, EachRuleKeepsItsOwn) {
  std::vector<VersionFacts> versions = Versions(6);
  EXPECT_THAT(Deleted(Context({2, 0, 0, {}}), versions), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(ReasonOf(Context({2, 0, 0, {}}), versions, 5), RetentionReason::kKeepLast);
  EXPECT_THAT(Deleted(Context({100, 0, 0, {}}), versions), IsEmpty());
  EXPECT_THAT(Deleted(Context({0, 0, 0, absl::Hours(2)}), versions), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(ReasonOf(Context({0, 0, 0, absl::Hours(2)}), versions, 5), RetentionReason::kKeepYounger);
  for (int64_t i = 0; i < 5; ++i) versions[static_cast<size_t>(i)].step = i * 500 - 500;
  EXPECT_THAT(Deleted(Context({0, 0, 1000, {}}), versions), ElementsAre(1, 3, 5));
  EXPECT_EQ(ReasonOf(Context({0, 0, 1000, {}}), versions, 2), RetentionReason::kKeepEverySteps);  // step 0
  EXPECT_THAT(Deleted(Context({0, 0, 0, absl::InfiniteDuration()}), versions), IsEmpty());
}

TEST(RetentionTest, TheBestAreThoseThatBestWouldMeanOneAfterTheOther) {
  std::vector<VersionFacts> versions = Versions(7);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double losses[] = {0.5, 0.1, 0.3, 0.3, nan, -0.0};
  for (size_t i = 0; i < 6; ++i) versions[i].metric = losses[i];
  // Best is 6, then 2, then 4 (the newer one of 0.3); 7 is the newest.
  EXPECT_THAT(Deleted(Context({0, 3, 0, {}}), versions), ElementsAre(1, 3, 5));
  EXPECT_EQ(ReasonOf(Context({0, 3, 0, {}}), versions, 6), RetentionReason::kBest);
  EXPECT_EQ(ReasonOf(Context({0, 3, 0, {}}), versions, 4), RetentionReason::kKeepBest);
  EXPECT_THAT(Deleted(Context({0, 1, 0, {}}, MetricGoal::kMaximize), versions), ElementsAre(2, 3, 4, 5, 6));
  EXPECT_THAT(Deleted(Context({0, 9, 0, {}}), versions), ElementsAre(5));  // no number: no rank
}

TEST(RetentionTest, RulesAreAUnion) {
  std::vector<VersionFacts> versions = Versions(6);
  versions[0].step = 1000;
  versions[1].metric = 0.1;
  versions[2].metric = 0.2;
  EXPECT_THAT(Deleted(Context({2, 2, 1000, {}}), versions), ElementsAre(4));
}

TEST(RetentionTest, ProtectionsComeBeforeEverything) {
  std::vector<VersionFacts> versions = Versions(6);
  for (VersionFacts& version : versions) version.expire_time_ns = kNow;
  versions[0].pinned = true;
  versions[1].aliased = true;
  versions[2].deployed = true;
  versions[3].metric = 7;
  for (const RetentionRule& rule : {RetentionRule{}, RetentionRule{1, 0, 0, {}}}) {
    EXPECT_THAT(Deleted(Context(rule), versions), ElementsAre(5));
    EXPECT_EQ(ReasonOf(Context(rule), versions, 1), RetentionReason::kPinned);
    EXPECT_EQ(ReasonOf(Context(rule), versions, 2), RetentionReason::kAlias);
    EXPECT_EQ(ReasonOf(Context(rule), versions, 3), RetentionReason::kDeployed);
    EXPECT_EQ(ReasonOf(Context(rule), versions, 4), RetentionReason::kBest);
    EXPECT_EQ(ReasonOf(Context(rule), versions, 5), RetentionReason::kExpired);
    EXPECT_EQ(ReasonOf(Context(rule), versions, 6), RetentionReason::kNewest);
  }
  // A push that reserved its number early and committed late.
  RetentionContext late = Context({1, 0, 0, {}});
  late.just_committed = 5;
  EXPECT_THAT(Deleted(late, versions), IsEmpty());
}

TEST(RetentionTest, AnExpireTimeInTheFutureKeepsNothing) {
  std::vector<VersionFacts> versions = Versions(3);
  versions[0].expire_time_ns = kNow + 1;
  EXPECT_THAT(Deleted(Context({}), versions), IsEmpty());
  EXPECT_THAT(Deleted(Context({1, 0, 0, {}}), versions), ElementsAre(1, 2));
}

TEST(RetentionTest, DamageTakesNoPlaceAndDoesNotMakeAVersionGoSooner) {
  std::vector<VersionFacts> versions = Versions(6);
  versions[4].quarantined = versions[5].quarantined = true;
  EXPECT_THAT(Deleted(Context({2, 0, 0, {}}), versions), ElementsAre(1, 2));
  EXPECT_EQ(ReasonOf(Context({2, 0, 0, {}}), versions, 4), RetentionReason::kNewest);
  EXPECT_EQ(ReasonOf(Context({2, 0, 0, {}}), versions, 6), RetentionReason::kKeepLast);
  for (size_t i = 0; i < 6; ++i) versions[i].metric = 10.0 - static_cast<double>(i);
  EXPECT_THAT(Deleted(Context({0, 1, 0, {}}), versions), ElementsAre(1, 2, 3));
  versions[0].quarantined = true;
  EXPECT_THAT(Deleted(Context({1, 0, 0, {}}), versions), ElementsAre(1, 2, 3));
}

TEST(RetentionTest, TimeIsLookedAtAgainWhenItMatters) {
  std::vector<VersionFacts> versions = Versions(3);
  const auto next = [&](const RetentionContext& context) {
    return NextRetentionNs(context, versions, DecideRetention(context, versions));
  };
  EXPECT_EQ(next(Context({})), 0);
  EXPECT_EQ(next(Context({1, 1, 1, {}})), 0);
  EXPECT_EQ(next(Context({0, 0, 0, absl::Hours(5)})), kNow + 3 * kHour);
  EXPECT_EQ(next(Context({0, 0, 0, absl::InfiniteDuration()})), 0);
  versions[0].expire_time_ns = kNow + 7;
  EXPECT_EQ(next(Context({})), kNow + 7);
  versions[0].expire_time_ns = kNow - 7;
  EXPECT_EQ(next(Context({})), 0);  // it goes now
  versions[0].pinned = true;
  EXPECT_EQ(next(Context({})), kNow + kHour);
}

TEST(RetentionTest, NegativeNumbersAreRefused) {
  EXPECT_OK(ValidateRetention({}));
  for (const RetentionRule& rule : {RetentionRule{-1, 0, 0, {}}, RetentionRule{0, -1, 0, {}},
                                    RetentionRule{0, 0, -1, {}}, RetentionRule{0, 0, 0, absl::Seconds(-1)}}) {
    EXPECT_THAT(ValidateRetention(rule), FailsWith(Reason::ARGUMENT_INVALID));
    EXPECT_FALSE(HasRules(rule));
  }
}

// The definition again, by counting: for every version and rule, over all other versions.
bool NaivelyStays(const RetentionContext& context, const std::vector<VersionFacts>& all, const VersionFacts& v) {
  const auto ranked = [](const VersionFacts& x) { return x.metric.has_value() && *x.metric == *x.metric; };
  const auto beats = [&](const VersionFacts& a, const VersionFacts& b) {
    const double sign = context.goal == MetricGoal::kMaximize ? -1 : 1;
    return sign * *a.metric < sign * *b.metric || (*a.metric == *b.metric && a.version > b.version);
  };
  int newer = 0, better = 0;
  for (const VersionFacts& other : all) {
    if (other.quarantined) continue;
    newer += other.version > v.version;
    better += ranked(v) && ranked(other) && beats(other, v);
  }
  if (v.pinned || v.aliased || v.deployed || v.version == context.just_committed) return true;
  if (!v.quarantined && (newer == 0 || (ranked(v) && better == 0))) return true;
  if (v.expire_time_ns && *v.expire_time_ns <= context.now_ns) return false;
  const RetentionRule& rule = context.rule;
  bool any = false, stays = false;
  const auto apply = [&](bool is_set, bool keeps) {
    any = any || is_set;
    stays = stays || (is_set && keeps);
  };
  apply(rule.keep_last != 0, newer < rule.keep_last);
  apply(rule.keep_best != 0, ranked(v) && better < rule.keep_best);
  apply(rule.keep_every_steps != 0,
        rule.keep_every_steps != 0 && v.step && *v.step / rule.keep_every_steps * rule.keep_every_steps == *v.step);
  apply(rule.keep_younger_than != absl::ZeroDuration(),
        absl::Nanoseconds(context.now_ns - v.create_time_ns) < rule.keep_younger_than);
  return stays || !any;
}

TEST(RetentionTest, AgreesWithCountingOnRandomRuns) {
  std::mt19937_64 random(20240611);
  const auto below = [&](uint64_t n) { return static_cast<int64_t>(random() % n); };
  int deleted = 0, kept = 0;
  for (int round = 0; round < 3000; ++round) {
    RetentionContext context;
    context.now_ns = kNow;
    context.goal = below(2) == 0 ? MetricGoal::kMinimize : MetricGoal::kMaximize;
    if (below(2) == 0) context.rule.keep_last = below(8);
    if (below(2) == 0) context.rule.keep_best = below(8);
    if (below(2) == 0) context.rule.keep_every_steps = below(5);
    if (below(3) == 0) context.rule.keep_younger_than = absl::Hours(below(12));
    std::vector<VersionFacts> versions = Versions(below(20));
    int64_t number = 0;
    for (VersionFacts& v : versions) {
      v.version = number += 1 + below(3);
      if (below(2) == 0) v.metric = static_cast<double>(below(5)) - 2;
      if (below(20) == 0) v.metric = std::numeric_limits<double>::quiet_NaN();
      if (below(2) == 0) v.step = below(12) - 3;
      if (below(6) == 0) v.expire_time_ns = kNow + below(3) - 1;
      v.quarantined = below(6) == 0;
      v.pinned = below(15) == 0;
      v.aliased = below(15) == 0;
      v.deployed = below(15) == 0;
      if (below(40) == 0) context.just_committed = v.version;
    }
    const auto verdicts = DecideRetention(context, versions);
    ASSERT_EQ(verdicts.size(), versions.size());
    for (size_t i = 0; i < versions.size(); ++i) {
      ASSERT_EQ(verdicts[i].version, versions[i].version);
      ASSERT_EQ(!verdicts[i].deleted(), NaivelyStays(context, versions, versions[i]))
          << "round " << round << ", version " << versions[i].version << ": "
          << DescribeReason(verdicts[i].reason, context.rule);
      ++(verdicts[i].deleted() ? deleted : kept);
    }
  }
  EXPECT_GT(deleted, 1000);
  EXPECT_GT(kept, 1000);
}

}  // namespace
}  // namespace sconce::repository
