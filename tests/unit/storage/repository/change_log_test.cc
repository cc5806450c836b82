#include "storage/repository/change_log.h"

#include "absl/strings/str_cat.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ChangeLogTest : public RepositoryTest {
 protected:
  const RunName run_ = {"default", "r"};

  // Everything after `after`, in pages of two.
  std::vector<Change> Tail(int64_t after, const ChangeFilter& filter = {}) {
    std::vector<Change> changes;
    for (bool more = true; more;) {
      const auto page = repository_->ReadChanges(after, filter, 2);
      EXPECT_OK(page);
      if (!page.ok()) break;
      for (const Change& change : page->changes) {
        EXPECT_GT(change.revision, after);
        changes.push_back(change);
      }
      after = page->next_after;
      more = page->more;
    }
    EXPECT_EQ(after, Revision());
    return changes;
  }
  std::vector<std::string> TailText(int64_t after, const ChangeFilter& filter = {}) {
    static const char* const kNames[] = {"committed", "updated",       "deleted",    "quarantined", "healed",
                                         "alias set", "alias deleted", "best moved", "run deleted"};
    std::vector<std::string> text;
    for (const Change& change : Tail(after, filter)) {
      text.push_back(absl::StrCat(change.run.run, " ", kNames[static_cast<int>(change.kind)], " ", change.version,
                                  change.alias.empty() ? "" : " ", change.alias));
    }
    return text;
  }
  int64_t Revision() {
    const auto revision = repository_->GetRevision();
    EXPECT_OK(revision);
    return revision.value_or(-1);
  }
};
SCONCE_BOTH_BACKENDS(ChangeLogTest);

TEST_P(ChangeLogTest, EveryChangeHasItsEntryInOrderAcrossRestarts) {
  EXPECT_EQ(Revision(), 0);
  EXPECT_TRUE(Tail(0).empty());
  PushMetrics("r", {{"loss", 0.5}});
  PushMetrics("s", {});
  PushMetrics("r", {{"loss", 0.7}});
  CheckpointUpdate update;
  update.add_metrics = {{"accuracy", 0.25}};
  ASSERT_OK(repository_->UpdateCheckpoint({run_, "2"}, update));
  ASSERT_OK(repository_->SetAlias(run_, "stable", "1", "", false));
  RunUpdate rule;
  rule.best_rule = {"accuracy", MetricGoal::kMaximize};
  ASSERT_OK(repository_->UpdateRun(run_, rule));
  Reopen();
  ASSERT_OK(repository_->DeleteAlias(run_, "stable", ""));
  ASSERT_OK(repository_->DeleteCheckpoint({run_, "2"}, "", false, false));
  ASSERT_OK(repository_->DeleteRun({"default", "s"}, "", true));
  EXPECT_THAT(TailText(0),
              ElementsAre("r committed 1", "r best moved 1 best", "s committed 1", "r committed 2", "r updated 2",
                          "r alias set 1 stable", "r best moved 2 best", "r alias deleted 1 stable", "r deleted 2",
                          "r best moved 0 best", "s run deleted 0"));
  EXPECT_THAT(TailText(0, {"default", "s"}), ElementsAre("s committed 1", "s run deleted 0"));
  EXPECT_EQ(TailText(0, {"default", ""}).size(), 11u);
  EXPECT_TRUE(TailText(0, {"other", ""}).empty());
  ASSERT_OK_AND_ASSIGN(const auto first, repository_->ReadChanges(0, {}, 1));
  ASSERT_EQ(first.changes.size(), 1u);
  EXPECT_TRUE(first.more);
  EXPECT_EQ(first.changes[0].time, clock_.Now());
  ASSERT_TRUE(first.changes[0].checkpoint.has_value());
  EXPECT_EQ(first.changes[0].checkpoint->metrics.at("loss"), 0.5);
  EXPECT_THAT(repository_->ReadChanges(-1, {}, 1), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(repository_->ReadChanges(Revision() + 1, {}, 1), FailsWith(Reason::REVISION_NOT_KEPT));
}

TEST_P(ChangeLogTest, QuarantineAndHealingMoveBest) {
  const std::string content = RandomBytes(5 << 20, 1);
  PushMetrics("r", {{"loss", 0.5}});
  ASSERT_OK(PushContents(To("r", {{"loss", 0.1}}), {content}));
  ASSERT_OK_AND_ASSIGN(auto open, repository_->OpenRead({run_, "2"}));
  Corrupt(*open, 0, 0);
  const int64_t before = Revision();
  EXPECT_THAT(open->ReadChunk(0, 0), FailsWith(Reason::CHUNK_CORRUPT));
  open = nullptr;
  EXPECT_THAT(TailText(before), ElementsAre("r quarantined 2", "r best moved 1 best"));
  const int64_t damaged = Revision();
  ASSERT_OK(PushContents(To("other"), {content}));
  EXPECT_THAT(TailText(damaged), ElementsAre("r healed 2", "r best moved 2 best", "other committed 1"));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(ChangeLogTest, AmongEqualValuesTheNewerIsBest) {
  RunUpdate rule;
  PushMetrics("r", {{"loss", 1}});
  rule.best_rule = {"loss", MetricGoal::kMaximize};
  ASSERT_OK(repository_->UpdateRun(run_, rule));
  const int64_t before = Revision();
  PushMetrics("r", {{"loss", 1}});
  PushMetrics("r", {{"loss", 0}});
  PushMetrics("r", {{"loss", 1}});
  ASSERT_OK(repository_->DeleteCheckpoint({run_, "4"}, "", false, false));
  ASSERT_OK(repository_->DeleteCheckpoint({run_, "1"}, "", false, false));
  EXPECT_THAT(TailText(before),
              ElementsAre("r committed 2", "r best moved 2 best", "r committed 3", "r committed 4",
                          "r best moved 4 best", "r deleted 4", "r best moved 2 best", "r deleted 1"));
  EXPECT_EQ(Resolve("r", "best"), 2);
}

TEST_P(ChangeLogTest, ADeletionSaysWhetherRetentionDidIt) {
  PushMetrics("r", {});
  PushMetrics("r", {});
  ASSERT_OK(repository_->DeleteCheckpoint({run_, "1"}, "", false, false));
  RunUpdate keep;
  keep.retention = RetentionRule{1, 0, 0, {}};
  ASSERT_OK(repository_->UpdateRun(run_, keep));
  PushMetrics("r", {});
  std::vector<DeletionCause> causes;
  for (const Change& change : Tail(0)) {
    if (change.kind == ChangeKind::kDeleted) causes.push_back(change.cause);
  }
  EXPECT_THAT(causes, ElementsAre(DeletionCause::kRequested, DeletionCause::kRetention));
}

TEST_P(ChangeLogTest, ThousandsOfOtherRunsChangesAreLookedOverInBoundedSteps) {
  PushMetrics("r", {});
  for (int i = 0; i < 600; ++i) ASSERT_OK(repository_->SetAlias(run_, "a", "1", "", false));
  PushMetrics("s", {});
  ASSERT_OK_AND_ASSIGN(const auto page, repository_->ReadChanges(0, {"default", "s"}, 10));
  EXPECT_TRUE(page.changes.empty());
  EXPECT_TRUE(page.more);
  EXPECT_LT(page.next_after, 600);
  EXPECT_THAT(TailText(0, {"default", "s"}), ElementsAre("s committed 1"));
}

TEST_P(ChangeLogTest, TheListenerRunsWhenAChangeIsVisible) {
  std::atomic<int> calls{0};
  repository_->SetRevisionListener([&] { ++calls; });
  PushMetrics("r", {});
  const int after_push = calls;
  EXPECT_GE(after_push, 1);
  ASSERT_OK(repository_->SetAlias(run_, "a", "1", "", false));
  EXPECT_GT(calls, after_push);
  repository_->SetRevisionListener(nullptr);
  const int before = calls;
  PushMetrics("r", {});
  EXPECT_EQ(calls, before);
}

class LogTrimmerTest : public ChangeLogTest {
 protected:
  LogTrimmerTest() {
    change_log_entries_ = 20;
    change_log_age_ = absl::Hours(1);
    repository_.reset();
    Open();
  }
};
SCONCE_BOTH_BACKENDS(LogTrimmerTest);

TEST_P(LogTrimmerTest, WhatIsOldAndBehindEnoughOthersGoes) {
  PushMetrics("r", {});
  for (int i = 0; i < 1100; ++i) ASSERT_OK(repository_->SetAlias(run_, "a", "1", "", false));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Tail(0).size(), 1101u);  // young
  clock_.Turn(absl::Hours(1));
  for (int i = 0; i < 30; ++i) ASSERT_OK(repository_->SetAlias(run_, "b", "1", "", false));
  ASSERT_OK(repository_->CollectGarbage());
  Reopen();
  const int64_t newest = Revision();
  EXPECT_EQ(newest, 1131);
  EXPECT_EQ(Tail(newest - 30).size(), 30u);
  EXPECT_THAT(repository_->ReadChanges(newest - 31, {}, 1),
              FailsWith(Reason::REVISION_NOT_KEPT, HasSubstr("oldest change still kept is revision 1102")));
  EXPECT_THAT(repository_->ReadChanges(0, {}, 1), FailsWith(Reason::REVISION_NOT_KEPT));
  clock_.Turn(absl::Hours(1));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Tail(newest - 20).size(), 20u);
  EXPECT_THAT(repository_->ReadChanges(newest - 21, {}, 1), FailsWith(Reason::REVISION_NOT_KEPT));
  EXPECT_THAT(Audit(), IsClean());
}

}  // namespace
}  // namespace sconce::repository
