#include "absl/synchronization/notification.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RunsTest : public RepositoryTest {
 protected:
  std::vector<std::string> List(const std::string& project, int64_t limit) {
    std::vector<std::string> names;
    std::string start;
    do {
      const auto page = repository_->ListRuns(project, start, limit);
      EXPECT_OK(page);
      if (!page.ok()) break;
      EXPECT_LE(static_cast<int64_t>(page->items.size()), limit);
      for (const auto& run : page->items) names.push_back(run.name.project + "/" + run.name.run);
      start = page->next;
    } while (!start.empty());
    return names;
  }
};
SCONCE_BOTH_BACKENDS(RunsTest);

TEST_P(RunsTest, ACreatedRunIsAsItWasAsked) {
  const RetentionRule retention = {5, 2, 100, absl::Hours(24)};
  ASSERT_OK_AND_ASSIGN(const auto made, repository_->CreateRun({"vision", "resnet"}, {{"team", "a"}},
                                                               {"acc", MetricGoal::kMaximize}, retention, {}));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const auto got, repository_->GetRun({"vision", "resnet"}));
  for (const auto& run : {made, got}) {
    EXPECT_EQ(run.name, (RunName{"vision", "resnet"}));
    EXPECT_EQ(run.labels, (Labels{{"team", "a"}}));
    EXPECT_EQ(run.best_rule.metric, "acc");
    EXPECT_EQ(run.best_rule.goal, MetricGoal::kMaximize);
    EXPECT_EQ(run.retention.keep_last, 5);
    EXPECT_EQ(run.retention.keep_every_steps, 100);
    EXPECT_EQ(run.retention.keep_younger_than, absl::Hours(24));
    EXPECT_EQ(run.checkpoint_count, 0);
    EXPECT_EQ(run.latest_version, 0);
    EXPECT_EQ(run.best_version, 0);
    EXPECT_EQ(run.create_time, clock_.Now());
    EXPECT_EQ(run.etag, made.etag);
    EXPECT_FALSE(run.uid.empty());
  }
}

TEST_P(RunsTest, CreatingTwiceIsRefusedUnlessItIsTheSameRequest) {
  const RequestKey request = {"me", "CreateRun", "1"};
  ASSERT_OK_AND_ASSIGN(const auto first, repository_->CreateRun({"p", "r"}, {}, {}, {}, request));
  ASSERT_OK_AND_ASSIGN(const auto again, repository_->CreateRun({"p", "r"}, {}, {}, {}, request));
  EXPECT_EQ(again.uid, first.uid);
  EXPECT_THAT(repository_->CreateRun({"p", "r"}, {}, {}, {}, {}), FailsWith(Reason::RUN_ALREADY_EXISTS));
  EXPECT_THAT(repository_->CreateRun({"p", "r"}, {}, {}, {}, {"me", "CreateRun", "2"}),
              FailsWith(Reason::RUN_ALREADY_EXISTS));
  EXPECT_THAT(repository_->CreateRun({"p", "other"}, {}, {}, {}, request), FailsWith(Reason::REQUEST_ID_REUSED));
}

TEST_P(RunsTest, BadSettingsAreRefused) {
  EXPECT_THAT(repository_->CreateRun({"p", "a b"}, {}, {}, {}, {}), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(repository_->CreateRun({"p", "r"}, {{"", ""}}, {}, {}, {}), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(repository_->CreateRun({"p", "r"}, {}, {"", MetricGoal::kMinimize}, {}, {}),
              FailsWith(Reason::ARGUMENT_INVALID));
  RetentionRule negative;
  negative.keep_last = -1;
  EXPECT_THAT(repository_->CreateRun({"p", "r"}, {}, {}, negative, {}), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_EQ(Stats().runs, 0);
}

TEST_P(RunsTest, UpdatesChangeOnlyWhatTheyNameAndTheEtag) {
  ASSERT_OK_AND_ASSIGN(const auto made, repository_->CreateRun({"p", "r"}, {{"a", "b"}}, {}, {}, {}));
  RunUpdate update;
  update.etag = made.etag;
  update.best_rule = BestRule{"acc", MetricGoal::kMaximize};
  ASSERT_OK_AND_ASSIGN(const auto updated, repository_->UpdateRun({"p", "r"}, update));
  EXPECT_EQ(updated.labels, made.labels);
  EXPECT_EQ(updated.best_rule.metric, "acc");
  EXPECT_THAT(repository_->UpdateRun({"p", "r"}, update), FailsWith(Reason::ETAG_MISMATCH, HasSubstr(updated.etag)));
  PushOptions options = To("r");
  options.run.project = "p";
  ASSERT_OK(PushContents(options, {}));
  update.etag = updated.etag;  // a push does not change what the user set
  update.labels = Labels();
  ASSERT_OK_AND_ASSIGN(const auto cleared, repository_->UpdateRun({"p", "r"}, update));
  EXPECT_TRUE(cleared.labels.empty());
  EXPECT_THAT(repository_->UpdateRun({"p", "x"}, update), FailsWith(Reason::RUN_NOT_FOUND));
}

TEST_P(RunsTest, ListsAreOrderedByProjectAndNameAndPaged) {
  for (const char* name : {"b", "a", "a-1", "a.1", "B"})
    ASSERT_OK(repository_->CreateRun({"p2", name}, {}, {}, {}, {}));
  for (const char* name : {"z", "y"}) ASSERT_OK(repository_->CreateRun({"p1", name}, {}, {}, {}, {}));
  const std::vector<std::string> all = {"p1/y", "p1/z", "p2/B", "p2/a", "p2/a-1", "p2/a.1", "p2/b"};
  for (int64_t limit = 1; limit <= 8; ++limit) EXPECT_EQ(List("", limit), all) << limit;
  EXPECT_THAT(List("p1", 1), ElementsAre("p1/y", "p1/z"));
  EXPECT_THAT(List("none", 5), ElementsAre());
  EXPECT_THAT(repository_->ListRuns("", "p1", 5), FailsWith(Reason::PAGE_TOKEN_INVALID));
  EXPECT_THAT(repository_->ListRuns("p1", "p2/a", 5), FailsWith(Reason::PAGE_TOKEN_INVALID));
  EXPECT_THAT(repository_->ListRuns("/", "", 5), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(repository_->ListRuns("", "", -1), FailsWith(Reason::ARGUMENT_INVALID));
}

TEST_P(RunsTest, OnlyAnEmptyRunIsDeletedWithoutForce) {
  ASSERT_OK(PushContents(To("r"), {RandomBytes(100'000, 1)}));
  ASSERT_OK(repository_->SetAlias({"default", "r"}, "stable", "1", "", false));
  EXPECT_THAT(repository_->DeleteRun({"default", "r"}, "", false),
              FailsWith(Reason::RUN_NOT_EMPTY, HasSubstr("1 checkpoints")));
  EXPECT_THAT(repository_->DeleteRun({"default", "r"}, "x", true), FailsWith(Reason::ETAG_MISMATCH));
  ASSERT_OK(repository_->DeleteRun({"default", "r"}, "", true));
  EXPECT_THAT(repository_->GetRun({"default", "r"}), FailsWith(Reason::RUN_NOT_FOUND));
  EXPECT_THAT(Read("r", "1"), FailsWith(Reason::RUN_NOT_FOUND));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 0);
  // The name is free again, and nothing of the old run shows.
  ASSERT_OK_AND_ASSIGN(const Checkpoint anew, PushContents(To("r"), {}));
  EXPECT_EQ(anew.version, 1);
  EXPECT_TRUE(anew.aliases.empty());
  ASSERT_OK(repository_->CreateRun({"default", "empty"}, {}, {}, {}, {}));
  EXPECT_OK(repository_->DeleteRun({"default", "empty"}, "", false));
}

TEST_P(RunsTest, WhatADeploymentNeedsIsNotDeleted) {
  repository_->SetProtector([](const RunName& run, int64_t version) { return run.run == "r" && version == 2; });
  for (int i = 0; i < 2; ++i) PushMetrics("r", {});
  const auto ref = [](const char* selector) { return CheckpointRef{{"default", "r"}, selector}; };
  EXPECT_THAT(repository_->DeleteRun({"default", "r"}, "", true),
              FailsWith(Reason::CHECKPOINT_PROTECTED, HasSubstr("version 2")));
  EXPECT_THAT(repository_->DeleteCheckpoint(ref("2"), "", true, false), FailsWith(Reason::CHECKPOINT_PROTECTED));
  EXPECT_OK(repository_->DeleteCheckpoint(ref("1"), "", false, false));
}

TEST_P(RunsTest, TheListenerHearsOfChanges) {
  absl::Notification heard;
  repository_->SetChangeListener([&](const RunName& run) {
    if (run == RunName{"default", "r"} && !heard.HasBeenNotified()) heard.Notify();
  });
  PushMetrics("r", {});
  EXPECT_TRUE(heard.WaitForNotificationWithTimeout(absl::Seconds(60)));
}

TEST_P(RunsTest, StatsCount) {
  ASSERT_OK(repository_->CreateRun({"p", "r"}, {}, {}, {}, {}));
  PushMetrics("a", {});
  PushMetrics("a", {});
  const RepositoryStats stats = Stats();
  EXPECT_EQ(stats.projects, 2);
  EXPECT_EQ(stats.runs, 2);
  EXPECT_EQ(stats.checkpoints, 2);
  EXPECT_EQ(stats.blobs, 2);
  EXPECT_GT(stats.physical_bytes, 0);
  EXPECT_GT(stats.free_bytes, 0);
}

}  // namespace
}  // namespace sconce::repository
