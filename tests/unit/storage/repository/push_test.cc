#include "storage/repository/push.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PushTest : public RepositoryTest {};
SCONCE_BOTH_BACKENDS(PushTest);

TEST_P(PushTest, WhatGoesInComesOutInAnyPieces) {
  const std::vector<std::string> contents = {
      RandomBytes(100, 1),    RandomBytes(2000, 2),    RandomBytes(9'000'000, 3),     RandomBytes(65'535, 4),
      RandomBytes(65'536, 5), RandomBytes(4 << 20, 6), RandomBytes((8 << 20) + 1, 7), RandomBytes(1025, 8)};
  const std::string bulk = BulkOf(contents);
  int64_t version = 0;
  for (const size_t piece : {size_t{977}, size_t{1} << 20, bulk.size()}) {
    ASSERT_OK_AND_ASSIGN(const auto push, Send(To("r"), TensorManifest(contents), bulk, piece));
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, push->Commit());
    EXPECT_EQ(checkpoint.version, ++version);
    ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", absl::StrCat(version)));
    EXPECT_TRUE(read == bulk) << "pieces of " << piece;
  }
  Reopen();
  ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "r"}, "latest"}));
  ASSERT_OK_AND_ASSIGN(const std::string read, ReadBulk(*open));
  EXPECT_TRUE(read == bulk);
  EXPECT_EQ(open->manifest().storages[0].inline_bytes, contents[0]);
  EXPECT_EQ(open->manifest().storages[2].chunks[0].sha256, Sha256(AsBytes(contents[2].substr(0, 4 << 20))));
  EXPECT_EQ(open->info().manifest_digest, Sha256(open->manifest_bytes()));
}

TEST_P(PushTest, TheAnswerSaysWhatWasStored) {
  PushOptions options = To("r", {{"acc", 0.5}});
  options.labels = {{"who", "me"}};
  options.parent = 7;
  options.pinned = true;
  const std::vector<std::string> contents = {RandomBytes(100, 1), RandomBytes(5'000'000, 2), RandomBytes(3000, 3)};
  ASSERT_OK_AND_ASSIGN(const Checkpoint made, PushContents(options, contents, {{"epoch", 3}, {"loss", 0.25}}));
  ASSERT_OK_AND_ASSIGN(const Checkpoint got, repository_->GetCheckpoint({{"default", "r"}, "1"}));
  for (const Checkpoint& checkpoint : {made, got}) {
    EXPECT_EQ(checkpoint.version, 1);
    EXPECT_EQ(checkpoint.epoch, 3);
    EXPECT_EQ(checkpoint.step, std::nullopt);
    EXPECT_EQ(checkpoint.metrics, (Metrics{{"acc", 0.5}, {"loss", 0.25}}));
    EXPECT_EQ(checkpoint.labels, options.labels);
    EXPECT_EQ(checkpoint.parent, 7);
    EXPECT_TRUE(checkpoint.pinned);
    EXPECT_EQ(checkpoint.logical_bytes, 5'003'100);
    EXPECT_EQ(checkpoint.stored_bytes, 5'003'000);
    EXPECT_EQ(checkpoint.deduplicated_bytes, 0);
    EXPECT_EQ(checkpoint.tensor_count, 3);
    EXPECT_EQ(checkpoint.create_time, clock_.Now());
    EXPECT_EQ(checkpoint.state, CheckpointState::kCommitted);
    EXPECT_EQ(checkpoint.etag, made.etag);
  }
}

TEST_P(PushTest, KnownChunksAreStoredOnceWithinAProject) {
  const std::string shared = RandomBytes(6 << 20, 1), small = RandomBytes(3000, 2);
  ASSERT_OK(PushContents(To("a"), {shared, small}));
  const int64_t before = Stats().physical_bytes;
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, PushContents(To("b"), {small, shared, small, RandomBytes(70'000, 3)}));
  EXPECT_EQ(again.stored_bytes, 70'000);
  EXPECT_EQ(again.deduplicated_bytes, (6 << 20) + 2 * 3000);
  EXPECT_LT(Stats().physical_bytes - before, 200'000);
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("b", "1"));
  EXPECT_TRUE(read == BulkOf({small, shared, small, RandomBytes(70'000, 3)}));
}

TEST_P(PushTest, AnotherProjectStoresItsOwn) {
  const std::string content = RandomBytes(200'000, 1);
  ASSERT_OK(PushContents(To("r"), {content}));
  PushOptions other = To("r");
  other.run.project = "other";
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, PushContents(other, {content}));
  EXPECT_EQ(checkpoint.stored_bytes, 200'000);
  EXPECT_EQ(checkpoint.deduplicated_bytes, 0);
}

TEST_P(PushTest, AVersionOfKnownChunksAloneIsReadable) {
  const std::string content = RandomBytes(200'000, 1);
  ASSERT_OK(PushContents(To("r"), {content}));
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, PushContents(To("r"), {content}));
  EXPECT_EQ(again.version, 2);
  EXPECT_EQ(again.stored_bytes, 0);
  EXPECT_EQ(Stats().blobs, 2);
  Reopen();
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "2"));
  EXPECT_TRUE(read == content);
}

TEST_P(PushTest, ManySmallStoragesArePackedAndQuick) {
  std::vector<std::string> contents;
  for (uint64_t i = 0; i < 5000; ++i) contents.push_back(RandomBytes(2048, i));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, PushContents(To("r"), contents));
  EXPECT_EQ(checkpoint.stored_bytes, 5000 * 2048);
  EXPECT_LT(Stats().physical_bytes, 5000 * (2048 + 512));
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "1"));
  EXPECT_TRUE(read == BulkOf(contents));
}

TEST_P(PushTest, BadInputIsRefusedAndChangesNothing) {
  const auto begin = [&](const PushOptions& options) {
    return repository_->BeginPush(options, TensorManifest({})).status();
  };
  PushOptions options = To("/../");
  EXPECT_THAT(begin(options), FailsWith(Reason::NAME_INVALID, HasSubstr("run name \"/../\"")));
  options = To("r");
  options.run.project = "";
  EXPECT_THAT(begin(options), FailsWith(Reason::NAME_INVALID, HasSubstr("empty")));
  options = To("r");
  options.create_run = false;
  EXPECT_THAT(begin(options), FailsWith(Reason::RUN_NOT_FOUND));
  options = To("r");
  options.labels = {{"", "x"}};
  EXPECT_THAT(begin(options), FailsWith(Reason::ARGUMENT_INVALID));
  options = To("r");
  options.metrics = {{"a\nb", 1}};
  EXPECT_THAT(begin(options), FailsWith(Reason::ARGUMENT_INVALID));
  options = To("r");
  options.parent = -1;
  EXPECT_THAT(begin(options), FailsWith(Reason::ARGUMENT_INVALID));
  options = To("r");
  options.kind = CheckpointKind::kOpaque;
  EXPECT_THAT(begin(options), FailsWith(Reason::MANIFEST_INVALID));
  format::Manifest broken = TensorManifest({RandomBytes(2000, 1)});
  broken.tensors[0].offset = 1;
  EXPECT_THAT(repository_->BeginPush(To("r"), broken).status(), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_EQ(Stats().runs, 0);
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(PushTest, TooFewOrTooManyBytesAreRefused) {
  const std::vector<std::string> contents = {RandomBytes(100'000, 1)};
  ASSERT_OK_AND_ASSIGN(const auto few, Send(To("r"), TensorManifest(contents), contents[0].substr(1)));
  EXPECT_EQ(few->received_bytes(), 99'999);
  EXPECT_EQ(few->expected_bytes(), 100'000);
  EXPECT_THAT(few->Commit(), FailsWith(Reason::UPLOAD_INCOMPLETE, HasSubstr("99999 of 100000")));
  EXPECT_THAT(Send(To("r"), TensorManifest(contents), contents[0] + "x"), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_THAT(repository_->GetRun({"default", "r"}), FailsWith(Reason::RUN_NOT_FOUND));
}

TEST_P(PushTest, BytesThatAreNotWhatTheManifestSaysAreRefused) {
  const std::string content = RandomBytes(100'000, 1);
  for (const bool right : {true, false}) {
    format::Manifest manifest = TensorManifest({content});
    const std::string claimed = right ? content : RandomBytes(100'000, 2);
    manifest.storages[0].chunks = {{Sha256(AsBytes(claimed)), Xxh3(AsBytes(claimed))}};
    const auto push = Send(To("r"), manifest, content);
    ASSERT_OK(push);
    if (right) {
      EXPECT_OK((*push)->Commit());
    } else {
      EXPECT_THAT((*push)->Commit(), FailsWith(Reason::DIGEST_MISMATCH));
    }
  }
}

TEST_P(PushTest, ADroppedPushLeavesNothing) {
  const std::string content = RandomBytes(10 << 20, 1);
  ASSERT_OK(Send(To("r"), TensorManifest({content}), content));  // dropped at the end of the statement
  EXPECT_EQ(Stats().blobs, 0);
  EXPECT_EQ(Stats().runs, 0);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, PushContents(To("r"), {content}));
  EXPECT_EQ(checkpoint.deduplicated_bytes, 0);
}

TEST_P(PushTest, GivenAndFoundAttributesMustAgree) {
  PushOptions options = To("r", {{"loss", 0.5}});
  options.epoch = 4;
  EXPECT_THAT(PushContents(options, {}, {{"epoch", 3}}),
              FailsWith(Reason::ATTRIBUTE_CONFLICT, AllOf(HasSubstr("epoch"), HasSubstr("4"), HasSubstr("3"))));
  EXPECT_THAT(PushContents(options, {}, {{"loss", 0.25}}),
              FailsWith(Reason::ATTRIBUTE_CONFLICT, AllOf(HasSubstr("loss"), HasSubstr("0.5"), HasSubstr("0.25"))));
  ASSERT_OK_AND_ASSIGN(const Checkpoint same, PushContents(options, {}, {{"epoch", 4}, {"loss", 0.5}}));
  EXPECT_EQ(same.epoch, 4);
}

TEST_P(PushTest, OpaqueBytesAreStoredUntouched) {
  const std::string content = RandomBytes(5 << 20, 1);
  format::Manifest manifest;
  manifest.storages.emplace_back();
  manifest.storages[0].size_bytes = static_cast<int64_t>(content.size());
  format::Node root;
  root.kind = format::NodeKind::kStorage;
  root.text = "untyped";
  manifest.nodes.push_back(root);
  PushOptions options = To("r");
  options.kind = CheckpointKind::kOpaque;
  ASSERT_OK_AND_ASSIGN(const auto push, Send(options, manifest, content));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, push->Commit());
  EXPECT_EQ(checkpoint.kind, CheckpointKind::kOpaque);
  EXPECT_EQ(checkpoint.logical_bytes, 5 << 20);
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "1"));
  EXPECT_TRUE(read == content);
}

TEST_P(PushTest, ARetriedRequestGetsTheFirstAnswer) {
  PushOptions options = To("r", {{"loss", 1}});
  options.request = {"me", "PushCheckpoint", "id-1"};
  const std::vector<std::string> contents = {RandomBytes(100'000, 1)};
  ASSERT_OK_AND_ASSIGN(const Checkpoint first, PushContents(options, contents));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const Checkpoint second, PushContents(options, contents));
  EXPECT_EQ(second.version, first.version);
  EXPECT_EQ(Stats().checkpoints, 1);
  EXPECT_EQ(Stats().blobs, 1);

  EXPECT_THAT(PushContents(options, {RandomBytes(100'000, 2)}), FailsWith(Reason::REQUEST_ID_REUSED));
  PushOptions other = options;
  other.labels = {{"a", "b"}};
  EXPECT_THAT(PushContents(other, contents), FailsWith(Reason::REQUEST_ID_REUSED));
  other = options;
  other.request.principal = "you";
  ASSERT_OK_AND_ASSIGN(const Checkpoint theirs, PushContents(other, contents));
  EXPECT_EQ(theirs.version, 2);
}

TEST_P(PushTest, ARequestIdIsForgottenAfterADay) {
  PushOptions options = To("r");
  options.request = {"me", "PushCheckpoint", "id-1"};
  ASSERT_OK(PushContents(options, {}));
  clock_.Turn(absl::Hours(23));
  ASSERT_OK_AND_ASSIGN(const Checkpoint within, PushContents(options, {}));
  EXPECT_EQ(within.version, 1);
  clock_.Turn(absl::Hours(2));
  ASSERT_OK_AND_ASSIGN(const Checkpoint after, PushContents(options, {}));
  EXPECT_EQ(after.version, 2);
}

TEST_P(PushTest, ARetryOfADeletedVersionSaysSo) {
  PushOptions options = To("r");
  options.request = {"me", "PushCheckpoint", "id-1"};
  ASSERT_OK(PushContents(options, {}));
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, "", false, false));
  EXPECT_THAT(PushContents(options, {}), FailsWith(Reason::CHECKPOINT_NOT_FOUND, HasSubstr("deleted")));
}

TEST_P(PushTest, ConcurrentPushesOfOneRequestCommitOnce) {
  PushOptions options = To("r");
  options.request = {"me", "PushCheckpoint", "id-1"};
  const std::vector<std::string> contents = {RandomBytes(100'000, 1)};
  std::vector<int64_t> versions(6);
  std::vector<std::thread> threads;
  for (int64_t& version : versions) {
    threads.emplace_back([&] {
      const auto checkpoint = PushContents(options, contents);
      ASSERT_OK(checkpoint);
      version = checkpoint->version;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(versions, ::testing::Each(versions[0]));
  EXPECT_EQ(Stats().checkpoints, 1);
  EXPECT_EQ(Stats().blobs, 1);
}

TEST_P(PushTest, ConcurrentPushesToOneRunGetDifferentVersions) {
  constexpr int kThreads = 8, kPushes = 4;
  const std::string shared = RandomBytes(300'000, 1);
  std::vector<std::vector<int64_t>> versions(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPushes; ++i) {
        const auto checkpoint =
            PushContents(To("r", {{"loss", t * 10 + i}}),
                         {shared, RandomBytes(70'000, 100), RandomBytes(5000, uint64_t(1000 + t * 10 + i))});
        ASSERT_OK(checkpoint);
        versions[size_t(t)].push_back(checkpoint->version);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<int64_t> all;
  for (const auto& of_thread : versions) all.insert(all.end(), of_thread.begin(), of_thread.end());
  std::sort(all.begin(), all.end());
  for (int i = 0; i < kThreads * kPushes; ++i) EXPECT_EQ(all[size_t(i)], i + 1);
  for (int t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kPushes; ++i) {
      ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", absl::StrCat(versions[size_t(t)][size_t(i)])));
      EXPECT_TRUE(read == BulkOf({shared, RandomBytes(70'000, 100), RandomBytes(5000, uint64_t(1000 + t * 10 + i))}));
    }
  }
  ASSERT_OK_AND_ASSIGN(const auto run, repository_->GetRun({"default", "r"}));
  EXPECT_EQ(run.checkpoint_count, kThreads * kPushes);
  EXPECT_EQ(run.latest_version, kThreads * kPushes);
  EXPECT_EQ(run.best_version, versions[0][0]);
}

TEST_P(PushTest, StalledPushesDoNotBlockOthers) {
  // More half-filled buffers than the pool has for all together.
  std::vector<std::unique_ptr<CheckpointPush>> stalled;
  const std::string content = RandomBytes(6 << 20, 1);
  for (int i = 0; i < 20; ++i) {
    auto push = Send(To("r"), TensorManifest({content}), content.substr(0, 5 << 20));
    ASSERT_OK(push);
    stalled.push_back(*std::move(push));
  }
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, PushContents(To("r"), {RandomBytes(20 << 20, 2)}));
  EXPECT_EQ(checkpoint.version, 1);
  ASSERT_OK(stalled[7]->Write(AsBytes(absl::string_view(content).substr(5 << 20))));
  ASSERT_OK(stalled[7]->Commit());
}

TEST_P(PushTest, ThereAreOnlySoManyPushesAtOnce) {
  std::vector<std::unique_ptr<CheckpointPush>> pushes;
  for (int i = 0; i < 64; ++i) {
    auto push = repository_->BeginPush(To("r"), TensorManifest({}));
    ASSERT_OK(push);
    pushes.push_back(*std::move(push));
  }
  EXPECT_THAT(repository_->BeginPush(To("r"), TensorManifest({})), FailsWith(Reason::SERVER_OVERLOADED));
  pushes.pop_back();
  EXPECT_OK(repository_->BeginPush(To("r"), TensorManifest({})));
}

TEST_P(PushTest, ARunDeletedMeanwhileFailsThePush) {
  ASSERT_OK(PushContents(To("r"), {}));
  const std::string content = RandomBytes(100'000, 1);
  PushOptions options = To("r");
  options.create_run = false;
  ASSERT_OK_AND_ASSIGN(const auto push, Send(options, TensorManifest({content}), content));
  ASSERT_OK(repository_->DeleteRun({"default", "r"}, "", true));
  EXPECT_THAT(push->Commit(), FailsWith(Reason::RUN_NOT_FOUND));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 0);
}

class PushFailureTest : public RepositoryTest {};
INSTANTIATE_TEST_SUITE_P(Memory, PushFailureTest, ::testing::Values(Backend::kMemory), BackendName);

TEST_P(PushFailureTest, AFullDiskFailsThePushAndLeavesNothing) {
  memory_blobs_->SetCapacityForTest(9 << 20);
  const auto push = PushContents(To("r"), {RandomBytes(20 << 20, 1)});
  EXPECT_THAT(push, FailsWith(Reason::DISK_FULL));
  EXPECT_EQ(Stats().blobs, 0);
  EXPECT_EQ(Stats().runs, 0);
  memory_blobs_->SetCapacityForTest(INT64_MAX);
  EXPECT_OK(PushContents(To("r"), {RandomBytes(20 << 20, 1)}));
}

TEST_P(PushFailureTest, AFailedBatchShowsNothing) {
  const std::string content = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("r"), {}));
  ASSERT_OK_AND_ASSIGN(const auto push, Send(To("r"), TensorManifest({content}), content));
  memory_catalog_->FailApplyForTest(MakeError(Reason::IO_ERROR, "the disk is gone"));
  EXPECT_THAT(push->Commit(), FailsWith(Reason::IO_ERROR));
  memory_catalog_->FailApplyForTest(absl::OkStatus());
  EXPECT_EQ(Resolve("r", "latest"), 1);
  EXPECT_EQ(Stats().checkpoints, 1);
}

TEST_P(PushFailureTest, AFullCatalogDiskTakesTheBlobBack) {
  const std::string content = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("r"), {}));
  ASSERT_OK_AND_ASSIGN(auto push, Send(To("r"), TensorManifest({content}), content));
  memory_catalog_->FailApplyForTest(MakeError(Reason::DISK_FULL, "the disk is full"), 1);  // after the reservation
  EXPECT_THAT(push->Commit(), FailsWith(Reason::DISK_FULL));
  push.reset();
  EXPECT_EQ(Stats().blobs, 1);
  EXPECT_EQ(Resolve("r", "latest"), 1);
}

TEST_P(PushFailureTest, ALittleFreeSpaceIsKept) {
  RepositoryOptions options = Options();
  options.min_free_bytes = INT64_MAX / 2;
  ASSERT_OK_AND_ASSIGN(const auto full,
                       LocalRepository::Assemble(options, std::nullopt, std::make_unique<catalog::MemoryCatalog>(),
                                                 std::make_unique<blob::MemoryBlobStore>()));
  EXPECT_THAT(full->BeginPush(To("r"), TensorManifest({})), FailsWith(Reason::DISK_FULL));
  EXPECT_THAT(full->NewSpool(), FailsWith(Reason::DISK_FULL));
}

}  // namespace
}  // namespace sconce::repository
