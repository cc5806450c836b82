#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "tests/unit/storage/repository/repository_fixture.h"

// Retention and expire times over a whole repository.
namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RetirementTest : public RepositoryTest {
 protected:
  const RunName run_ = {"default", "r"};

  void SetRetention(RetentionRule rule) {
    RunUpdate update;
    update.retention = rule;
    ASSERT_OK(repository_->UpdateRun(run_, update));
  }
  void Update(int64_t version, const CheckpointUpdate& update) {
    ASSERT_OK(repository_->UpdateCheckpoint({run_, absl::StrCat(version)}, update));
  }
  std::vector<int64_t> Versions() {
    std::vector<int64_t> versions;
    std::string start;
    do {
      const auto page = repository_->ListCheckpoints(run_, start, 1000);
      EXPECT_OK(page);
      if (!page.ok()) break;
      for (const Checkpoint& checkpoint : page->items) versions.push_back(checkpoint.version);
      start = page->next;
    } while (!start.empty());
    std::reverse(versions.begin(), versions.end());
    return versions;
  }
  std::vector<int64_t> Preview(const std::optional<RetentionRule>& rule = std::nullopt, int64_t page_size = 1000) {
    std::vector<int64_t> deleted;
    std::string start;
    do {
      const auto page = repository_->PreviewRetention(run_, rule, start, page_size);
      EXPECT_OK(page);
      if (!page.ok()) break;
      for (const RetentionDecision& decision : page->items) {
        if (decision.deleted) deleted.insert(deleted.begin(), decision.version);
      }
      start = page->next;
    } while (!start.empty());
    return deleted;
  }
  CollectReport Collect() {
    const auto report = repository_->CollectGarbage();
    EXPECT_OK(report);
    return report.value_or(CollectReport());
  }
};
SCONCE_BOTH_BACKENDS(RetirementTest);

TEST_P(RetirementTest, ACommitDeletesWhatNoRuleKeepsInItsOwnBatch) {
  for (int i = 1; i <= 4; ++i) PushMetrics("r", {{"loss", 1.0 / i}});
  SetRetention({2, 0, 0, {}});
  ASSERT_OK(PushContents(To("r", {{"loss", 9}}), {RandomBytes(5000, 1)}));
  EXPECT_THAT(Versions(), ElementsAre(4, 5));  // 4 is also the best
  PushMetrics("r", {{"loss", 9}});
  PushMetrics("r", {{"loss", 9}});
  EXPECT_THAT(Versions(), ElementsAre(4, 6, 7));
  ASSERT_OK_AND_ASSIGN(const auto run, repository_->GetRun(run_));
  EXPECT_EQ(run.checkpoint_count, 3);
  EXPECT_EQ(run.best_version, 4);
  Collect();
  EXPECT_EQ(Stats().blobs, 3);
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(RetirementTest, AStricterPolicyWorksAtTheNextPass) {
  for (int i = 0; i < 5; ++i) PushMetrics("r", {});
  SetRetention({1, 0, 0, {}});
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(5));
}

TEST_P(RetirementTest, AliasesPinsAndDeploymentsProtect) {
  std::atomic<bool> deployed{true};
  repository_->SetProtector(
      [&](const RunName& run, int64_t version) { return deployed && run.run == "r" && version == 3; });
  for (int i = 0; i < 5; ++i) PushMetrics("r", {});
  ASSERT_OK(repository_->SetAlias(run_, "stable", "1", "", false));
  CheckpointUpdate pin;
  pin.pinned = true;
  Update(2, pin);
  ASSERT_OK_AND_ASSIGN(const auto page, repository_->PreviewRetention(run_, RetentionRule{1, 0, 0, {}}, "", 10));
  std::vector<std::string> whys;
  for (const RetentionDecision& decision : page.items) whys.push_back(decision.why);
  EXPECT_THAT(whys, ElementsAre("the newest version", "no rule keeps it", "served by a deployment", "pinned",
                                "named by alias stable"));
  SetRetention({1, 0, 0, {}});
  PushMetrics("r", {});
  EXPECT_THAT(Versions(), ElementsAre(1, 2, 3, 6));
  // Protections that go make what they protected superfluous, at the next pass.
  ASSERT_OK(repository_->SetAlias(run_, "stable", "6", "", false));
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(2, 3, 6));
  pin.pinned = false;
  Update(2, pin);
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(3, 6));
  deployed = false;
  clock_.Turn(absl::Hours(1));  // nobody says that a deployment ended
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(6));
}

TEST_P(RetirementTest, AgeCountsAtTheCollectorsPass) {
  ASSERT_OK(repository_->CreateRun(run_, {}, {}, {0, 0, 0, absl::Hours(10)}, {}));
  for (int i = 0; i < 4; ++i) {
    PushMetrics("r", {});
    clock_.Turn(absl::Hours(4));
  }
  // Ages 16, 12, 8, 4; at the last commit the first one was 12 hours old.
  EXPECT_THAT(Versions(), ElementsAre(2, 3, 4));
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(3, 4));
  Reopen();
  clock_.Turn(absl::Hours(2));
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(4));
  clock_.Turn(absl::Hours(1000));
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(4));  // the newest stays
}

TEST_P(RetirementTest, AnExpireTimeIsKeptAtThePassWithTheSameProtections) {
  PushOptions options = To("r");
  options.expire_time = clock_.Now() + absl::Hours(1);
  for (int i = 0; i < 3; ++i) ASSERT_OK(PushContents(options, {}));
  PushMetrics("r", {});
  ASSERT_OK(repository_->SetAlias(run_, "stable", "1", "", false));
  CheckpointUpdate update;
  update.expire_time = std::optional<absl::Time>();
  Update(2, update);  // not any more
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(1, 2, 3, 4));
  clock_.Turn(absl::Hours(1));
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(1, 2, 4));
  ASSERT_OK(repository_->DeleteAlias(run_, "stable", ""));
  clock_.Turn(absl::Hours(1));
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(2, 4));
  update.expire_time = clock_.Now() - absl::Hours(1);
  Update(2, update);
  Update(4, update);
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(4));
}

TEST_P(RetirementTest, ThePreviewIsWhatHappens) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 60; ++i) {
    PushOptions options = To("r");
    if (random() % 2 == 0) options.metrics["loss"] = static_cast<double>(random() % 10);
    if (random() % 2 == 0) options.step = static_cast<int64_t>(random() % 10);
    options.pinned = random() % 20 == 0;
    if (random() % 10 == 0) options.expire_time = clock_.Now() + absl::Hours(1);
    ASSERT_OK(PushContents(options, {}));
    clock_.Turn(absl::Minutes(1));
  }
  ASSERT_OK(repository_->SetAlias(run_, "a", "17", "", false));
  clock_.Turn(absl::Hours(1));
  Collect();
  const RetentionRule rule = {3, 4, 5, absl::Minutes(70)};
  const std::vector<int64_t> before = Versions(), deleted = Preview(rule);
  EXPECT_THAT(Preview(), IsEmpty());
  EXPECT_EQ(Preview(rule, 7), deleted);
  EXPECT_GT(deleted.size(), 5u);
  SetRetention(rule);
  Collect();
  std::vector<int64_t> expected;
  std::set_difference(before.begin(), before.end(), deleted.begin(), deleted.end(), std::back_inserter(expected));
  EXPECT_EQ(Versions(), expected);
  EXPECT_THAT(Preview(), IsEmpty());
  EXPECT_THAT(repository_->PreviewRetention(run_, RetentionRule{-1, 0, 0, {}}, "", 10),
              FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(repository_->PreviewRetention(run_, std::nullopt, "x", 10), FailsWith(Reason::PAGE_TOKEN_INVALID));
  EXPECT_THAT(repository_->PreviewRetention({"default", "no"}, std::nullopt, "", 10), FailsWith(Reason::RUN_NOT_FOUND));
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(RetirementTest, ThousandsOfVersionsGoInBoundedBatches) {
  for (int i = 0; i < 1300; ++i) PushMetrics("r", {{"loss", static_cast<double>(i % 7)}});
  SetRetention({10, 3, 0, {}});
  PushMetrics("r", {});  // too large a run for the commit to look: the collector does
  Collect();
  EXPECT_EQ(Versions().size(), 12u);  // the newest 10, of which one is among the best 3
  Collect();
  EXPECT_EQ(Stats().blobs, 12);
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(RetirementTest, ACommitTakesSomeAndLeavesTheRestToThePass) {
  for (int i = 0; i < 700; ++i) PushMetrics("r", {});
  Collect();
  SetRetention({1, 0, 0, {}});
  PushMetrics("r", {});
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(701));
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(RetirementTest, AReaderInTheMiddleFinishes) {
  const std::string content = RandomBytes(5 << 20, 1);
  ASSERT_OK(PushContents(To("r"), {content}));
  ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({run_, "1"}));
  ASSERT_OK(open->ReadChunk(0, 0));
  SetRetention({1, 0, 0, {}});
  PushMetrics("r", {});
  EXPECT_THAT(Versions(), ElementsAre(2));
  Collect();
  EXPECT_EQ(Stats().blobs, 1);
  ASSERT_OK_AND_ASSIGN(const std::string read, ReadBulk(*open));
  EXPECT_TRUE(read == content);
}

TEST_P(RetirementTest, WhatIsNamedWhileRetentionRunsIsNeverTaken) {
  ASSERT_OK(repository_->CreateRun(run_, {}, {}, {2, 0, 0, {}}, {}));
  std::atomic<bool> done{false};
  std::thread collector([&] {
    while (!done) Collect();
  });
  std::vector<std::thread> pushers;
  for (int t = 0; t < 2; ++t) {
    pushers.emplace_back([&] {
      for (int i = 0; i < 60; ++i) PushMetrics("r", {});
    });
  }
  std::set<int64_t> named;
  for (int i = 0; i < 40; ++i) {
    const auto set = repository_->SetAlias(run_, absl::StrCat("a", i), "latest", "", false);
    if (set.ok()) named.insert(set->version);
    const auto latest = repository_->GetCheckpoint({run_, "latest"});
    CheckpointUpdate pin;
    pin.pinned = true;
    if (latest.ok() && repository_->UpdateCheckpoint({run_, absl::StrCat(latest->version)}, pin).ok()) {
      named.insert(latest->version);
    }
  }
  for (std::thread& pusher : pushers) pusher.join();
  done = true;
  collector.join();
  for (const int64_t version : named) {
    EXPECT_OK(repository_->GetCheckpoint({run_, absl::StrCat(version)})) << version;
  }
  Collect();
  EXPECT_LE(Versions().size(), named.size() + 2);
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(RetirementTest, ACommitThatHealsAVersionDoesNotDeleteItInTheSameBatch) {
  const std::string content = RandomBytes(9 << 20, 1);
  ASSERT_OK(PushContents(To("r"), {content}));
  PushMetrics("r", {});
  ASSERT_OK_AND_ASSIGN(auto open, repository_->OpenRead({run_, "1"}));
  Corrupt(*open, 0, 0);
  EXPECT_THAT(open->ReadChunk(0, 0), FailsWith(Reason::CHUNK_CORRUPT));
  open = nullptr;
  SetRetention({1, 0, 0, {}});
  ASSERT_OK(PushContents(To("r"), {content}));
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(3));
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(RetirementTest, NothingGoesBeforeTheProtectorIsKnown) {
  if (GetParam() == Backend::kMemory) GTEST_SKIP() << "needs a second opening";
  for (int i = 0; i < 3; ++i) PushMetrics("r", {});
  repository_.reset();
  auto opened = Repository::Open(Options());
  ASSERT_OK(opened);
  repository_ = *std::move(opened);
  SetRetention({1, 0, 0, {}});
  PushMetrics("r", {});
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(1, 2, 3, 4));
  repository_->SetProtector([](const RunName&, int64_t version) { return version == 2; });
  repository_->StartRetention();
  Collect();
  EXPECT_THAT(Versions(), ElementsAre(2, 4));
}

TEST_P(RetirementTest, TheLogSaysWhy) {
  if (GetParam() == Backend::kDisk) GTEST_SKIP() << "reads the catalog, which RocksDB locks";
  PushOptions options = To("r");
  options.expire_time = clock_.Now();
  ASSERT_OK(PushContents(options, {}));
  PushMetrics("r", {});
  PushMetrics("r", {});
  PushMetrics("r", {});
  Collect();
  SetRetention({1, 0, 0, {}});
  ASSERT_OK(repository_->DeleteCheckpoint({run_, "2"}, "", false, false));
  Collect();
  std::map<int64_t, records::DeletionCause> causes;
  ASSERT_OK(memory_catalog_->Scan(catalog::LogPrefix(), catalog::PrefixEnd(catalog::LogPrefix()), false,
                                  [&](absl::string_view, absl::string_view value) {
                                    const auto entry = ParseRecord<records::ChangeRecord>(value);
                                    if (entry.ok() && entry->kind() == records::CHANGE_KIND_CHECKPOINT_DELETED) {
                                      causes[entry->version()] = entry->cause();
                                    }
                                    return true;
                                  }));
  EXPECT_EQ(causes, (std::map<int64_t, records::DeletionCause>{{1, records::DELETION_CAUSE_EXPIRED},
                                                               {2, records::DELETION_CAUSE_UNSPECIFIED},
                                                               {3, records::DELETION_CAUSE_RETENTION}}));
}

}  // namespace
}  // namespace sconce::repository
