#include "storage/repository/collector.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::HasSubstr;

class CollectorTest : public RepositoryTest {
 protected:
  absl::Status Delete(const std::string& run, const std::string& selector, bool force = false) {
    return repository_->DeleteCheckpoint({{"default", run}, selector}, "", force, false);
  }
  CollectReport Collect() {
    const auto report = repository_->CollectGarbage();
    EXPECT_OK(report);
    return report.value_or(CollectReport());
  }
};
SCONCE_BOTH_BACKENDS(CollectorTest);

TEST_P(CollectorTest, ADeletedVersionIsGoneAtOnceAndItsSpaceSoonAfter) {
  PushMetrics("r", {});
  ASSERT_OK(PushContents(To("r", {{"loss", 1}}), {RandomBytes(9 << 20, 1), RandomBytes(3000, 2)}));
  ASSERT_OK(Delete("r", "best"));
  EXPECT_THAT(Read("r", "2"), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  EXPECT_EQ(Resolve("r", "latest"), 1);
  EXPECT_THAT(repository_->GetCheckpoint({{"default", "r"}, "best"}), FailsWith(Reason::BEST_UNDEFINED));
  EXPECT_THAT(Delete("r", "2"), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  Collect();
  EXPECT_EQ(Stats().blobs, 1);
  EXPECT_LT(Stats().physical_bytes, 1 << 20);
  ASSERT_OK_AND_ASSIGN(const auto run, repository_->GetRun({"default", "r"}));
  EXPECT_EQ(run.checkpoint_count, 1);
  // The number is not given again, and the chunks are not thought to be there.
  ASSERT_OK_AND_ASSIGN(const Checkpoint next, PushContents(To("r"), {RandomBytes(9 << 20, 1)}));
  EXPECT_EQ(next.version, 3);
  EXPECT_EQ(next.deduplicated_bytes, 0);
}

TEST_P(CollectorTest, SharersKeepWhatTheyShare) {
  const std::string a = RandomBytes(9 << 20, 1), b = RandomBytes(200'000, 2), c = RandomBytes(3000, 3);
  ASSERT_OK(PushContents(To("r"), {a, b, c}));
  ASSERT_OK(PushContents(To("s"), {a, c}));
  ASSERT_OK(Delete("r", "1"));
  Collect();
  Reopen();
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("s", "1"));
  EXPECT_TRUE(read == a + c);
  EXPECT_EQ(Stats().blobs, 2);  // the first one holds what the second version reads
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, PushContents(To("s"), {a, b, c}));
  EXPECT_EQ(again.stored_bytes, 200'000);
  ASSERT_OK(Delete("s", "1"));
  ASSERT_OK(Delete("s", "2"));
  Collect();
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(CollectorTest, AReaderInTheMiddleFinishes) {
  const std::string content = RandomBytes(9 << 20, 1);
  ASSERT_OK(PushContents(To("r"), {content}));
  ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "r"}, "1"}));
  ASSERT_OK(open->ReadChunk(0, 0));
  ASSERT_OK(Delete("r", "1"));
  Collect();
  EXPECT_EQ(Stats().blobs, 0);
  ASSERT_OK_AND_ASSIGN(const std::string read, ReadBulk(*open));
  EXPECT_TRUE(read == content);
  repository_.reset();  // not even the repository has to be there
  ASSERT_OK(ReadBulk(*open));
}

TEST_P(CollectorTest, WhatAPushReliesOnIsKept) {
  const std::string content = RandomBytes(9 << 20, 1), more = RandomBytes(100'000, 2);
  ASSERT_OK(PushContents(To("r"), {content}));
  ASSERT_OK_AND_ASSIGN(auto push, Send(To("s"), TensorManifest({content, more}), content));
  // The push waits for bytes; the pool has looked its first chunks up when the next ones are refused or taken.
  ASSERT_OK(push->Write(AsBytes(more)));
  ASSERT_OK(Delete("r", "1"));
  for (int i = 0; i < 3; ++i) Collect();
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, push->Commit());
  push.reset();
  Collect();
  Reopen();
  Collect();
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("s", absl::StrCat(checkpoint.version)));
  EXPECT_TRUE(read == content + more);
}

TEST_P(CollectorTest, ADroppedPushReleasesWhatItReliedOn) {
  const std::string content = RandomBytes(9 << 20, 1);
  ASSERT_OK(PushContents(To("r"), {content}));
  {
    ASSERT_OK_AND_ASSIGN(const auto push, Send(To("s"), TensorManifest({content}), content));
    ASSERT_OK(Delete("r", "1"));
    Collect();
  }
  Collect();
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(CollectorTest, PushesAndDeletionsAtOnceNeverLoseAChunk) {
  const std::vector<std::string> pool = {RandomBytes(80'000, 1), RandomBytes(90'000, 2), RandomBytes(3000, 3),
                                         RandomBytes(5 << 20, 4)};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string run = absl::StrCat("r", t);
      for (int i = 0; i < 12; ++i) {
        const std::vector<std::string> contents = {pool[size_t(t + i) % 4], pool[size_t(t + i + 1) % 4]};
        const auto checkpoint = PushContents(To(run), contents);
        ASSERT_OK(checkpoint);
        const auto read = Read(run, absl::StrCat(checkpoint->version));
        ASSERT_OK(read);
        ASSERT_TRUE(*read == BulkOf(contents));
        ASSERT_OK(Delete(run, absl::StrCat(checkpoint->version)));
      }
    });
  }
  std::atomic<bool> done{false};
  std::thread collector([&] {
    while (!done) Collect();
  });
  for (std::thread& thread : threads) thread.join();
  done = true;
  collector.join();
  Collect();
  Collect();
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(CollectorTest, AliasesAndPinsProtectUnlessForced) {
  for (int i = 0; i < 3; ++i) PushMetrics("r", {});
  ASSERT_OK(repository_->SetAlias({"default", "r"}, "stable", "1", "", false));
  CheckpointUpdate update;
  update.pinned = true;
  ASSERT_OK(repository_->UpdateCheckpoint({{"default", "r"}, "2"}, update));
  EXPECT_THAT(Delete("r", "1"), FailsWith(Reason::CHECKPOINT_PROTECTED, HasSubstr("alias stable")));
  EXPECT_THAT(Delete("r", "2"), FailsWith(Reason::CHECKPOINT_PROTECTED, HasSubstr("pinned")));
  ASSERT_OK(Delete("r", "1", true));
  EXPECT_THAT(repository_->GetAlias({"default", "r"}, "stable"), FailsWith(Reason::ALIAS_NOT_FOUND));
  ASSERT_OK(Delete("r", "2", true));
}

TEST_P(CollectorTest, ValidateOnlyAndAWrongEtagChangeNothing) {
  PushMetrics("r", {});
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, "", false, true));
  EXPECT_THAT(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, "wrong", false, false),
              FailsWith(Reason::ETAG_MISMATCH));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, repository_->GetCheckpoint({{"default", "r"}, "1"}));
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, checkpoint.etag, false, false));
}

TEST_P(CollectorTest, ALargeDeletionGoesInSteps) {
  std::vector<std::string> contents;
  for (uint64_t i = 0; i < 2500; ++i) contents.push_back(RandomBytes(1100, i));
  ASSERT_OK(PushContents(To("r"), contents));
  ASSERT_OK(PushContents(To("s"), {contents[7], contents[1800]}));
  ASSERT_OK(repository_->DeleteRun({"default", "r"}, "", true));
  Collect();
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("s", "1"));
  EXPECT_TRUE(read == contents[7] + contents[1800]);
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, PushContents(To("t"), contents));
  EXPECT_EQ(again.deduplicated_bytes, 2 * 1100);
  ASSERT_OK(Delete("s", "1"));
  Collect();
  EXPECT_EQ(Stats().blobs, 2);  // the new one, and the one in which it found two chunks
}

TEST_P(CollectorTest, APreviewSaysWhatAPassWouldRemoveAndRemovesNothing) {
  const std::string shared = RandomBytes(200'000, 1);
  ASSERT_OK(PushContents(To("r"), {shared}));
  ASSERT_OK(PushContents(To("r"), {shared, RandomBytes(300'000, 2)}));
  ASSERT_OK(PushContents(To("gone"), {RandomBytes(400'000, 3)}));
  ASSERT_OK_AND_ASSIGN(const CollectReport nothing, repository_->PreviewGarbage());
  EXPECT_EQ(nothing.removed_blobs, 0);
  // A deletion wakes the collector, so what a preview says then depends on who is first. A push keeps it from
  // finishing.
  ASSERT_OK_AND_ASSIGN(auto push, Send(To("pin"), TensorManifest({RandomBytes(400'000, 3)}), RandomBytes(400'000, 3)));
  ASSERT_OK(repository_->DeleteRun({"default", "gone"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  const RepositoryStats before = Stats();
  ASSERT_OK_AND_ASSIGN(const CollectReport preview, repository_->PreviewGarbage());
  EXPECT_EQ(preview.versions, 1);
  EXPECT_EQ(preview.removed_blobs, 1);
  EXPECT_EQ(Stats().blobs, before.blobs);
  push = nullptr;
  ASSERT_OK(repository_->CollectGarbage());  // the woken collector may have been quicker
  EXPECT_EQ(before.blobs - Stats().blobs, 1);
  EXPECT_EQ(before.physical_bytes - Stats().physical_bytes, preview.freed_bytes);
}

}  // namespace
}  // namespace sconce::repository
