#include <cmath>
#include <limits>
#include <thread>

#include "absl/strings/str_cat.h"
#include "storage/repository/best_rule.h"
#include "tests/unit/storage/repository/repository_fixture.h"

// `latest`, `best`, aliases and updates of versions.
namespace sconce::repository {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

class VersionsTest : public RepositoryTest {
 protected:
  static CheckpointRef Ref(const std::string& selector) { return {{"default", "r"}, selector}; }
  absl::StatusOr<Checkpoint> Get(const std::string& selector) { return repository_->GetCheckpoint(Ref(selector)); }
  absl::StatusOr<repository::Run> SetBest(const std::string& metric, MetricGoal goal) {
    RunUpdate update;
    update.best_rule = BestRule{metric, goal};
    return repository_->UpdateRun({"default", "r"}, update);
  }
};
SCONCE_BOTH_BACKENDS(VersionsTest);

TEST_P(VersionsTest, BestIsTheLowestLossWithTiesToTheNewer) {
  PushMetrics("r", {{"loss", 0.5}});
  EXPECT_EQ(Resolve("r", "best"), 1);
  PushMetrics("r", {{"loss", 0.25}});
  PushMetrics("r", {{"loss", kNan}});
  PushMetrics("r", {{"loss", 0.25}});
  PushMetrics("r", {{"loss", 0.75}});
  EXPECT_EQ(Resolve("r", "best"), 4);
  PushMetrics("r", {{"loss", -kInf}});
  EXPECT_EQ(Resolve("r", "best"), 6);
  Reopen();
  EXPECT_EQ(Resolve("r", "best"), 6);
  EXPECT_EQ(Resolve("r", "latest"), 6);
  ASSERT_OK_AND_ASSIGN(const auto run, repository_->GetRun({"default", "r"}));
  EXPECT_EQ(run.best_version, 6);
}

TEST_P(VersionsTest, AMaximizedMetricWorksTheOtherWay) {
  PushMetrics("r", {{"acc", 0.5}});
  PushMetrics("r", {{"acc", 0.9}});
  PushMetrics("r", {{"acc", 0.9}});
  PushMetrics("r", {{"acc", kNan}});
  PushMetrics("r", {{"acc", -1}});
  ASSERT_OK_AND_ASSIGN(const auto run, SetBest("acc", MetricGoal::kMaximize));
  EXPECT_EQ(run.best_version, 3);
  EXPECT_EQ(Resolve("r", "best"), 3);
  ASSERT_OK(SetBest("acc", MetricGoal::kMinimize));
  EXPECT_EQ(Resolve("r", "best"), 5);
}

TEST_P(VersionsTest, ZeroAndMinusZeroTie) {
  PushMetrics("r", {{"loss", 0.0}});
  PushMetrics("r", {{"loss", -0.0}});
  EXPECT_EQ(Resolve("r", "best"), 2);
  ASSERT_OK(SetBest("loss", MetricGoal::kMaximize));
  EXPECT_EQ(Resolve("r", "best"), 2);
}

TEST_P(VersionsTest, WithoutAValueBestIsUndefinedAndNamesWhatThereIs) {
  PushMetrics("r", {{"acc", 0.5}, {"val/f1", 0.1}, {"loss", kNan}});
  EXPECT_THAT(Get("best"), FailsWith(Reason::BEST_UNDEFINED, AllOf(HasSubstr("\"loss\""), HasSubstr("acc, val/f1"),
                                                                   Not(HasSubstr("acc, loss")))));
}

TEST_P(VersionsTest, UnknownThingsAreNotFound) {
  EXPECT_THAT(Get("latest"), FailsWith(Reason::RUN_NOT_FOUND, HasSubstr("default/r")));
  ASSERT_OK(repository_->CreateRun({"default", "r"}, {}, {}, {}, {}));
  EXPECT_THAT(Get("latest"), FailsWith(Reason::LATEST_UNDEFINED));
  EXPECT_THAT(Get("best"), FailsWith(Reason::BEST_UNDEFINED, HasSubstr("no version has any metric")));
  PushMetrics("r", {});
  EXPECT_THAT(Get("2"), FailsWith(Reason::CHECKPOINT_NOT_FOUND, HasSubstr("version 2")));
  EXPECT_THAT(Get("stable"), FailsWith(Reason::ALIAS_NOT_FOUND, HasSubstr("\"stable\"")));
  EXPECT_THAT(Get("v2"), FailsWith(Reason::SELECTOR_INVALID));
  EXPECT_THAT(repository_->GetCheckpoint({{"default", "/../"}, "1"}), FailsWith(Reason::NAME_INVALID));
}

TEST_P(VersionsTest, AddingAMetricMovesBestAtOnce) {
  PushMetrics("r", {{"loss", 0.5}});
  PushMetrics("r", {});
  CheckpointUpdate update;
  update.add_metrics = {{"loss", 0.1}, {"val/acc", 0.9}};
  ASSERT_OK_AND_ASSIGN(const Checkpoint updated, repository_->UpdateCheckpoint(Ref("2"), update));
  EXPECT_EQ(updated.metrics, update.add_metrics);
  EXPECT_EQ(Resolve("r", "best"), 2);
  ASSERT_OK(repository_->UpdateCheckpoint(Ref("2"), update));  // the same values again
  update.add_metrics = {{"loss", 0.2}};
  EXPECT_THAT(repository_->UpdateCheckpoint(Ref("2"), update),
              FailsWith(Reason::METRIC_ALREADY_SET, AllOf(HasSubstr("loss"), HasSubstr("0.1"))));
  EXPECT_EQ(Resolve("r", "best"), 2);
}

TEST_P(VersionsTest, UpdatesTouchOnlyWhatTheyName) {
  PushOptions options = To("r", {{"loss", 1}});
  options.labels = {{"a", "b"}};
  ASSERT_OK_AND_ASSIGN(const Checkpoint first, PushContents(options, {}));
  CheckpointUpdate update;
  update.etag = first.etag;
  update.pinned = true;
  update.expire_time = clock_.Now() + absl::Hours(1);
  ASSERT_OK_AND_ASSIGN(const Checkpoint pinned, repository_->UpdateCheckpoint(Ref("1"), update));
  EXPECT_TRUE(pinned.pinned);
  EXPECT_EQ(pinned.labels, first.labels);
  EXPECT_EQ(pinned.expire_time, clock_.Now() + absl::Hours(1));
  EXPECT_EQ(pinned.manifest_digest, first.manifest_digest);
  EXPECT_NE(pinned.etag, first.etag);
  EXPECT_THAT(repository_->UpdateCheckpoint(Ref("1"), update),
              FailsWith(Reason::ETAG_MISMATCH, HasSubstr(pinned.etag)));
  CheckpointUpdate clear;
  clear.labels = Labels();
  clear.expire_time = std::optional<absl::Time>();
  ASSERT_OK_AND_ASSIGN(const Checkpoint cleared, repository_->UpdateCheckpoint(Ref("latest"), clear));
  EXPECT_TRUE(cleared.labels.empty());
  EXPECT_EQ(cleared.expire_time, std::nullopt);
  EXPECT_TRUE(cleared.pinned);
  Reopen();
  ASSERT_OK_AND_ASSIGN(const Checkpoint read, Get("1"));
  EXPECT_EQ(read.etag, cleared.etag);
}

TEST_P(VersionsTest, AliasesMoveByCompareAndSwap) {
  for (int i = 0; i < 3; ++i) PushMetrics("r", {{"loss", i}});
  const RunName run = {"default", "r"};
  ASSERT_OK_AND_ASSIGN(const Alias one, repository_->SetAlias(run, "stable", "1", "", true));
  EXPECT_EQ(one.version, 1);
  EXPECT_THAT(repository_->SetAlias(run, "stable", "2", "", true), FailsWith(Reason::ETAG_MISMATCH));
  ASSERT_OK_AND_ASSIGN(const Alias two, repository_->SetAlias(run, "stable", "latest", one.etag, false));
  EXPECT_EQ(two.version, 3);
  EXPECT_THAT(repository_->SetAlias(run, "stable", "1", one.etag, false),
              FailsWith(Reason::ETAG_MISMATCH, HasSubstr(two.etag)));
  EXPECT_EQ(Resolve("r", "stable"), 3);
  ASSERT_OK(repository_->SetAlias(run, "canary", "stable", "", false));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const Checkpoint third, Get("3"));
  EXPECT_THAT(third.aliases, ElementsAre("canary", "stable"));
  EXPECT_THAT(repository_->SetAlias(run, "best", "1", "", false), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(repository_->SetAlias(run, "other", "9", "", false), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  EXPECT_THAT(repository_->DeleteAlias(run, "stable", one.etag), FailsWith(Reason::ETAG_MISMATCH));
  ASSERT_OK(repository_->DeleteAlias(run, "stable", two.etag));
  EXPECT_THAT(repository_->GetAlias(run, "stable"), FailsWith(Reason::ALIAS_NOT_FOUND));
  EXPECT_THAT(repository_->DeleteAlias(run, "stable", ""), FailsWith(Reason::ALIAS_NOT_FOUND));
  // Made anew it has another etag, though it names the same version.
  ASSERT_OK_AND_ASSIGN(const Alias anew, repository_->SetAlias(run, "stable", "3", "", true));
  EXPECT_NE(anew.etag, two.etag);
}

TEST_P(VersionsTest, OfConcurrentSwapsOneWins) {
  for (int i = 0; i < 8; ++i) PushMetrics("r", {});
  const RunName run = {"default", "r"};
  ASSERT_OK_AND_ASSIGN(const Alias start, repository_->SetAlias(run, "stable", "1", "", true));
  std::atomic<int> won{0};
  std::vector<std::thread> threads;
  for (int t = 1; t <= 8; ++t) {
    threads.emplace_back([&, t] {
      const auto swapped = repository_->SetAlias(run, "stable", absl::StrCat(t), start.etag, false);
      if (swapped.ok()) {
        ++won;
      } else {
        EXPECT_THAT(swapped, FailsWith(Reason::ETAG_MISMATCH));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
}

TEST_P(VersionsTest, ListsComeInPages) {
  for (int i = 0; i < 5; ++i) PushMetrics("r", {});
  const RunName run = {"default", "r"};
  std::vector<int64_t> versions;
  std::string start;
  do {
    ASSERT_OK_AND_ASSIGN(const auto page, repository_->ListCheckpoints(run, start, 2));
    for (const Checkpoint& checkpoint : page.items) versions.push_back(checkpoint.version);
    start = page.next;
  } while (!start.empty());
  EXPECT_THAT(versions, ElementsAre(5, 4, 3, 2, 1));
  for (const char* alias : {"b", "a", "c"}) ASSERT_OK(repository_->SetAlias(run, alias, "1", "", false));
  ASSERT_OK_AND_ASSIGN(const auto two, repository_->ListAliases(run, "", 2));
  EXPECT_EQ(two.items.size(), 2u);
  EXPECT_EQ(two.items[0].alias, "a");
  ASSERT_OK_AND_ASSIGN(const auto rest, repository_->ListAliases(run, two.next, 2));
  ASSERT_EQ(rest.items.size(), 1u);
  EXPECT_EQ(rest.items[0].alias, "c");
  EXPECT_EQ(rest.next, "");
  for (const char* bad : {"x", "0", "-4", "9223372036854775807"}) {
    EXPECT_THAT(repository_->ListCheckpoints(run, bad, 2), FailsWith(Reason::PAGE_TOKEN_INVALID)) << bad;
  }
  EXPECT_THAT(repository_->ListCheckpoints(run, "", 0), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(repository_->ListAliases(run, "/", 2), FailsWith(Reason::PAGE_TOKEN_INVALID));
}

}  // namespace
}  // namespace sconce::repository
