#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/catalog/keys.h"
#include "tests/support/xxh3_collision.h"
#include "tests/unit/storage/repository/upload_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class UploadsTest : public UploadTest {};

TEST_P(UploadsTest, AnUploadBecomesAVersionOnce) {
  const std::vector<std::string> contents = {RandomBytes(5'000'000, 1), "small", RandomBytes(3000, 2),
                                             RandomBytes(70'000, 3)};
  const ClientPart client("t", contents);
  const UploadRef ref = Begin(To("a"), "first");
  ASSERT_OK_AND_ASSIGN(const Moved moved, SendPart(*repository_, ref, 0, client));
  EXPECT_EQ(moved.sent, 4);  // two of 4 MiB and less, and two
  ASSERT_OK_AND_ASSIGN(const Upload before, repository_->GetUpload(ref));
  ASSERT_EQ(before.parts.size(), 1u);
  EXPECT_TRUE(before.parts[0].complete());
  EXPECT_EQ(before.parts[0].manifest_digest, Sha256(AsBytes(client.manifest)));
  EXPECT_EQ(before.version, 0);
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, repository_->CommitUpload(ref));
  EXPECT_EQ(committed.version, 1);
  EXPECT_EQ(committed.stored_bytes, 5'073'000);
  EXPECT_EQ(committed.deduplicated_bytes, 0);
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, repository_->CommitUpload(ref));
  EXPECT_EQ(again.version, 1);
  ASSERT_OK_AND_ASSIGN(const Upload after, repository_->GetUpload(ref));
  EXPECT_EQ(after.version, 1);
  EXPECT_THAT(Read("a", "1"), IsOk());
  EXPECT_EQ(*Read("a", "1"), BulkOf(contents));
  // The same as a push of the same.
  ASSERT_OK_AND_ASSIGN(const Checkpoint pushed, PushContents(To("b"), contents));
  EXPECT_EQ(pushed.manifest_digest, committed.manifest_digest);
  EXPECT_EQ(pushed.stored_bytes, 0);
  EXPECT_EQ(Resolve("a", "latest"), 1);

  Reopen();
  ASSERT_OK_AND_ASSIGN(const Checkpoint later, repository_->CommitUpload(ref));
  EXPECT_EQ(later.version, 1);
  EXPECT_EQ(*Read("a", "1"), BulkOf(contents));
  ExpectAllSpaceBack({"a", "b"});
}

TEST_P(UploadsTest, WhatIsStoredIsNotSentAgain) {
  const std::vector<std::string> contents = {RandomBytes(9'000'000, 1), RandomBytes(3000, 2), RandomBytes(3001, 3)};
  const ClientPart client("t", contents);
  ASSERT_OK(PushContents(To("a"), contents));
  const int64_t bytes = Stats().physical_bytes;
  Moved moved;
  ASSERT_OK_AND_ASSIGN(const Checkpoint same, UploadAll(To("a"), client, &moved));
  EXPECT_EQ(moved.sent, 0);
  EXPECT_EQ(moved.skipped, 5);
  EXPECT_EQ(same.stored_bytes, 0);
  EXPECT_EQ(same.deduplicated_bytes, 9'006'001);
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_LT(Stats().physical_bytes - bytes, 64 << 10);  // a footer
  EXPECT_EQ(*Read("a", "2"), BulkOf(contents));
  // Also what only an upload has brought.
  const ClientPart other("u", {RandomBytes(100'000, 9)});
  ASSERT_OK(UploadAll(To("a"), other));
  ASSERT_OK(UploadAll(To("a"), other, &moved));
  EXPECT_EQ(moved.sent, 0);
  ExpectAllSpaceBack({"a"});
}

TEST_P(UploadsTest, NothingIsSharedAcrossProjects) {
  const std::string content = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("a"), {content}));
  const ClientPart client("t", {content});
  PushOptions options = To("a");
  options.run.project = "other";
  Moved moved;
  ASSERT_OK(UploadAll(options, client, &moved));
  EXPECT_EQ(moved.sent, 1);
  EXPECT_EQ(moved.skipped, 0);
  // Nor does a proof help, or what another project's index says.
  options.run.run = "b";
  const std::string unknown = RandomBytes(100'001, 2);
  ASSERT_OK(PushContents(To("a"), {unknown}));
  const ClientPart asks("t", {unknown});
  const UploadRef ref = Begin(options);
  ASSERT_OK_AND_ASSIGN(const auto stream, repository_->BeginPart(ref, 0, AsBytes(asks.manifest), nullptr));
  ASSERT_OK_AND_ASSIGN(const auto verdicts, stream->Propose({asks.Proposal(0)}));
  EXPECT_THAT(verdicts, ElementsAre(ChunkVerdict::kSend));
  ASSERT_OK_AND_ASSIGN(const auto proved, stream->Prove({asks.Proof(0)}));
  EXPECT_THAT(proved, ElementsAre(ChunkVerdict::kSend));
}

TEST_P(UploadsTest, ABrokenStreamIsFollowedByOneThatSendsTheRest) {
  const std::vector<std::string> contents = {RandomBytes(13'000'000, 1), RandomBytes(2000, 2), RandomBytes(2001, 3)};
  const ClientPart client("t", contents);
  const UploadRef ref = Begin(To("a"), "u");
  std::vector<int64_t> reported;
  {
    Mutex mu;
    ASSERT_OK_AND_ASSIGN(const auto stream,
                         repository_->BeginPart(ref, 0, AsBytes(client.manifest), [&](const auto& ranges) {
                           MutexLock lock(&mu);
                           for (const int64_t n : Numbers(ranges)) reported.push_back(n);
                         }));
    EXPECT_EQ(stream->chunk_count(), 6);
    EXPECT_THAT(stream->durable(), ::testing::IsEmpty());
    ASSERT_OK(stream->Write(1, 0, AsBytes(client.chunks[1])));
    ASSERT_OK(stream->Flush());
    ASSERT_OK(stream->Write(3, 0, AsBytes(client.chunks[3] + client.chunks[4])));    // whole, not flushed
    ASSERT_OK(stream->Write(0, 0, AsBytes(client.chunks[0].substr(0, 1'000'000))));  // not whole
  }
  EXPECT_THAT(reported, ElementsAre(1));
  EXPECT_THAT(
      repository_->CommitUpload(ref),
      FailsWith(Reason::UPLOAD_INCOMPLETE, HasSubstr("part 0 lacks 3 of its 6 chunks, the first being number 0")));
  ASSERT_OK_AND_ASSIGN(const Upload upload, repository_->GetUpload(ref));
  ASSERT_EQ(upload.parts.size(), 1u);
  EXPECT_THAT(upload.parts[0].durable, ElementsAre(ChunkRange{1, 1}, ChunkRange{3, 4}));
  EXPECT_EQ(upload.parts[0].chunk_count, 6);

  EXPECT_THAT(Audit(), IsClean());  // an open upload accounts for what it has
  Reopen();
  ASSERT_OK_AND_ASSIGN(const Moved moved, SendPart(*repository_, ref, 0, client, /*with_manifest=*/false));
  EXPECT_EQ(moved.resumed, 3);
  EXPECT_EQ(moved.sent, 3);
  Reopen();
  ASSERT_OK(repository_->CommitUpload(ref));
  EXPECT_EQ(*Read("a", "1"), BulkOf(contents));
  ExpectAllSpaceBack({"a"});
}

TEST_P(UploadsTest, StreamsOfOnePartWorkAtOnceAndStoreContentOnce) {
  std::vector<std::string> contents;
  for (int i = 0; i < 40; ++i) contents.push_back(RandomBytes(100'000, static_cast<uint64_t>(i % 10)));  // each 4 times
  const ClientPart client("t", contents);
  const UploadRef ref = Begin(To("a"), "u");
  std::vector<std::thread> threads;
  std::atomic<int> reported{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const auto stream = repository_->BeginPart(ref, 0, AsBytes(client.manifest), [&](const auto& ranges) {
        reported += static_cast<int>(Numbers(ranges).size());
      });
      ASSERT_OK(stream);
      for (int n = t; n < 40; n += 4) {
        ASSERT_OK((*stream)->Write(n, 0, AsBytes(client.chunks[static_cast<size_t>(n)])));
      }
      ASSERT_OK((*stream)->Flush());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(reported, 40);
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, repository_->CommitUpload(ref));
  EXPECT_EQ(committed.stored_bytes, 1'000'000);
  EXPECT_EQ(committed.deduplicated_bytes, 3'000'000);
  EXPECT_LT(Stats().physical_bytes, 1'200'000);
  EXPECT_EQ(*Read("a", "1"), BulkOf(contents));
  ExpectAllSpaceBack({"a"});
}

TEST_P(UploadsTest, RanksMakeOneVersionTogether) {
  constexpr int kRanks = 4;
  std::vector<ClientPart> clients;
  for (int r = 0; r < kRanks; ++r) {
    clients.emplace_back(
        absl::StrCat("rank", r, "."),
        std::vector<std::string>{RandomBytes(4'500'000, static_cast<uint64_t>(r)), RandomBytes(5000, 77)});
  }
  std::atomic<int64_t> version{0};
  std::atomic<int> answers{0};
  std::vector<std::thread> ranks;
  for (int r = 0; r < kRanks; ++r) {
    ranks.emplace_back([&, r] {
      const auto upload = repository_->BeginUpload(Request("a", "step-7"), "step-7", kRanks);
      ASSERT_OK(upload);
      ASSERT_OK(SendPart(*repository_, upload->ref, r, clients[static_cast<size_t>(r)]));
      absl::StatusOr<Checkpoint> committed = repository_->CommitUpload(upload->ref);
      while (HasReason(committed.status(), Reason::UPLOAD_INCOMPLETE)) {
        EXPECT_THAT(committed.status().message(), HasSubstr("part"));
        committed = repository_->CommitUpload(upload->ref);
      }
      ASSERT_OK(committed);
      EXPECT_EQ(committed->version, 1);
      version = committed->version;
      ++answers;
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(answers, kRanks);
  ASSERT_OK_AND_ASSIGN(const Checkpoint info, repository_->GetCheckpoint({{"default", "a"}, "1"}));
  EXPECT_EQ(info.tensor_count, 2 * kRanks);
  std::string expected;
  for (const ClientPart& client : clients) {
    for (const std::string& chunk : client.chunks) expected += chunk;
  }
  EXPECT_EQ(info.stored_bytes, kRanks * 4'500'000 + 5000);
  EXPECT_EQ(*Read("a", "1"), expected);
  ASSERT_OK_AND_ASSIGN(const auto page, repository_->ListCheckpoints({"default", "a"}, "", 10));
  EXPECT_EQ(page.items.size(), 1u);
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
  EXPECT_EQ(*Read("a", "1"), expected);
  ExpectAllSpaceBack({"a"});
}

TEST_P(UploadsTest, MissingPartsAndOverlapsAreNamed) {
  const ClientPart one("x", {RandomBytes(2000, 1)}), same("x", {RandomBytes(2000, 2)});
  const UploadRef ref = Begin(To("a"), "u", 3);
  ASSERT_OK(SendPart(*repository_, ref, 0, one));
  ASSERT_OK(SendPart(*repository_, ref, 2, same));
  EXPECT_THAT(repository_->CommitUpload(ref), FailsWith(Reason::UPLOAD_INCOMPLETE, HasSubstr("part 1 has not begun")));
  const ClientPart rest("y", {RandomBytes(2000, 3)});
  ASSERT_OK(SendPart(*repository_, ref, 1, rest));
  EXPECT_THAT(repository_->CommitUpload(ref), FailsWith(Reason::PARTS_OVERLAP, HasSubstr("/x0")));
  EXPECT_THAT(repository_->BeginPart(ref, 3, AsBytes(one.manifest), nullptr), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(repository_->BeginPart(ref, -1, AsBytes(one.manifest), nullptr), FailsWith(Reason::ARGUMENT_INVALID));
  ASSERT_OK(repository_->AbortUpload(ref));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().physical_bytes, 0);
}

TEST_P(UploadsTest, APinnedChunkStaysUntilTheUploadEnds) {
  const std::vector<std::string> contents = {RandomBytes(5'000'000, 1), RandomBytes(3000, 2)};
  const ClientPart client("t", contents);
  ASSERT_OK(PushContents(To("a"), contents));
  const UploadRef ref = Begin(To("b"), "u");
  ASSERT_OK_AND_ASSIGN(const Moved moved, SendPart(*repository_, ref, 0, client));
  EXPECT_EQ(moved.skipped, 3);
  ASSERT_OK(repository_->DeleteRun({"default", "a"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  Reopen();
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, repository_->CommitUpload(ref));
  EXPECT_EQ(committed.stored_bytes, 0);
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(*Read("b", "1"), BulkOf(contents));
  ExpectAllSpaceBack({"b"});
}

TEST_P(UploadsTest, AnAbortedUploadLetsItsPinsGo) {
  const std::vector<std::string> contents = {RandomBytes(100'000, 1)};
  const ClientPart client("t", {contents[0], RandomBytes(100'000, 2)});
  ASSERT_OK(PushContents(To("a"), contents));
  const UploadRef ref = Begin(To("b"), "u");
  ASSERT_OK(SendPart(*repository_, ref, 0, client));
  ASSERT_OK(repository_->DeleteRun({"default", "a"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_GT(Stats().physical_bytes, 100'000);
  ASSERT_OK(repository_->AbortUpload(ref));
  ASSERT_OK(repository_->AbortUpload(ref));  // a retry
  EXPECT_THAT(repository_->GetUpload(ref), FailsWith(Reason::UPLOAD_NOT_FOUND));
  EXPECT_THAT(repository_->CommitUpload(ref), FailsWith(Reason::UPLOAD_NOT_FOUND));
  EXPECT_THAT(repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr), FailsWith(Reason::UPLOAD_NOT_FOUND));
  ASSERT_OK(repository_->CollectGarbage());
  ExpectAllSpaceBack({});
  // The id is free again.
  ASSERT_OK(SendPart(*repository_, Begin(To("b"), "u"), 0, client));
  ASSERT_OK(repository_->CommitUpload(ref));
}

TEST_P(UploadsTest, AStreamOfAnAbortedUploadEnds) {
  const ClientPart client("t", {RandomBytes(100'000, 1)});
  const UploadRef ref = Begin(To("b"), "u");
  ASSERT_OK_AND_ASSIGN(const auto stream, repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr));
  ASSERT_OK(repository_->AbortUpload(ref));
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_OK(stream->Write(0, 0, AsBytes(client.chunks[0])));
  EXPECT_THAT(stream->Flush(), FailsWith(Reason::UPLOAD_NOT_FOUND));
}

TEST_P(UploadsTest, UploadsNotTouchedForTooLongAreDropped) {
  const ClientPart client("t", {RandomBytes(100'000, 1), RandomBytes(100'000, 2)});
  const UploadRef ref = Begin(To("a"), "u");
  {
    ASSERT_OK_AND_ASSIGN(const auto stream, repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr));
    ASSERT_OK(stream->Write(0, 0, AsBytes(client.chunks[0])));
    ASSERT_OK(stream->Flush());
    clock_.Turn(absl::Hours(23));
    ASSERT_OK_AND_ASSIGN(CollectReport report, repository_->CollectGarbage());
    EXPECT_EQ(report.expired_uploads, 0);
    ASSERT_OK(stream->Write(1, 0, AsBytes(client.chunks[1])));  // a sign of life
    ASSERT_OK(stream->Flush());
  }
  clock_.Turn(absl::Hours(23));
  ASSERT_OK_AND_ASSIGN(CollectReport report, repository_->CollectGarbage());
  EXPECT_EQ(report.expired_uploads, 0);
  ASSERT_OK_AND_ASSIGN(const Upload upload, repository_->GetUpload(ref));
  EXPECT_EQ(upload.expire_time, clock_.Now() + absl::Hours(1));
  Reopen();
  clock_.Turn(absl::Hours(1));
  const auto reopened = repository_->CollectGarbage();
  ASSERT_OK(reopened);
  EXPECT_THAT(repository_->GetUpload(ref), FailsWith(Reason::UPLOAD_NOT_FOUND));
  ExpectAllSpaceBack({});
}

TEST_P(UploadsTest, DeletingTheRunDropsItsUploads) {
  const ClientPart client("t", {RandomBytes(100'000, 1)});
  ASSERT_OK(PushContents(To("a"), {}));
  const UploadRef ref = Begin(To("a"), "u");
  ASSERT_OK(SendPart(*repository_, ref, 0, client));
  ASSERT_OK(repository_->DeleteRun({"default", "a"}, "", true));
  EXPECT_THAT(repository_->CommitUpload(ref), FailsWith(Reason::UPLOAD_NOT_FOUND));
  ExpectAllSpaceBack({});
}

TEST_P(UploadsTest, TheSameRequestFindsItsUploadAndItsVersion) {
  const ClientPart client("t", {RandomBytes(100'000, 1)});
  const UploadRef first = Begin(Request("a", "r1"));
  EXPECT_EQ(Begin(Request("a", "r1")).upload, first.upload);
  EXPECT_NE(Begin(Request("a", "r2")).upload, first.upload);
  EXPECT_NE(Begin(To("a")).upload, Begin(To("a")).upload);  // without an id, always a new one
  ASSERT_OK(SendPart(*repository_, first, 0, client));
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, repository_->CommitUpload(first));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const Upload again, repository_->BeginUpload(Request("a", "r1"), "", 1));
  EXPECT_EQ(again.version, committed.version);
  clock_.Turn(absl::Hours(25));
  ASSERT_OK_AND_ASSIGN(const Upload anew, repository_->BeginUpload(Request("a", "r1"), "", 1));
  EXPECT_EQ(anew.version, 0);
}

TEST_P(UploadsTest, WhoJoinsMustAskForTheSame) {
  PushOptions options = Request("a", "r1");
  options.labels["x"] = "1";
  Begin(options, "u", 2);
  Begin(options, "u", 2);
  EXPECT_THAT(repository_->BeginUpload(options, "u", 3), FailsWith(Reason::UPLOAD_ALREADY_EXISTS));
  options.labels["x"] = "2";
  EXPECT_THAT(repository_->BeginUpload(options, "u", 2), FailsWith(Reason::UPLOAD_ALREADY_EXISTS));
  options.labels["x"] = "1";
  options.request.request_id = "r2";
  EXPECT_THAT(repository_->BeginUpload(options, "u", 2), FailsWith(Reason::UPLOAD_ALREADY_EXISTS));
  EXPECT_THAT(repository_->BeginUpload(options, "not/an id", 2), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(repository_->BeginUpload(options, "u", -1), FailsWith(Reason::ARGUMENT_INVALID));
  options.create_run = false;
  options.run.run = "unknown";
  EXPECT_THAT(repository_->BeginUpload(options, "u", 1), FailsWith(Reason::RUN_NOT_FOUND));
}

TEST_P(UploadsTest, ARequestThatWasPushedIsAnsweredByTheCommit) {
  const std::vector<std::string> contents = {RandomBytes(100'000, 1)};
  ASSERT_OK_AND_ASSIGN(const Checkpoint pushed, PushContents(Request("a", "r1"), contents));
  Moved moved;
  ASSERT_OK_AND_ASSIGN(const Checkpoint same, UploadAll(Request("a", "r1"), ClientPart("t", contents), &moved));
  EXPECT_EQ(same.version, pushed.version);
  EXPECT_EQ(moved.sent, 0);
  ASSERT_OK(PushContents(Request("a", "r2"), contents));
  EXPECT_THAT(UploadAll(Request("a", "r2"), ClientPart("t", {RandomBytes(100'000, 2)})),
              FailsWith(Reason::REQUEST_ID_REUSED));
  ASSERT_OK_AND_ASSIGN(const auto page, repository_->ListCheckpoints({"default", "a"}, "", 10));
  EXPECT_EQ(page.items.size(), 2u);
}

TEST_P(UploadsTest, ACollisionOfFingerprintsNeverMixesContent) {
  const auto [stored, other] = CollideXxh3(RandomBytes(100'000, 1));
  ASSERT_NE(stored, other);
  ASSERT_EQ(Xxh3(AsBytes(stored)), Xxh3(AsBytes(other)));
  ASSERT_OK(PushContents(To("a"), {stored}));
  const ClientPart client("t", {other});
  const UploadRef ref = Begin(To("a"), "u");
  {
    ASSERT_OK_AND_ASSIGN(const auto stream, repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr));
    ASSERT_OK_AND_ASSIGN(const auto verdicts, stream->Propose({client.Proposal(0)}));
    EXPECT_THAT(verdicts, ElementsAre(ChunkVerdict::kProve));
    ASSERT_OK_AND_ASSIGN(const auto proved, stream->Prove({client.Proof(0)}));
    EXPECT_THAT(proved, ElementsAre(ChunkVerdict::kSend));
    ASSERT_OK(stream->Write(0, 0, AsBytes(client.chunks[0])));
    ASSERT_OK(stream->Flush());
  }
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, repository_->CommitUpload(ref));
  EXPECT_EQ(committed.stored_bytes, 100'000);
  EXPECT_EQ(*Read("a", "1"), stored);
  EXPECT_EQ(*Read("a", "2"), other);
  // From now on there are two candidates, and each is found.
  Moved moved;
  ASSERT_OK(UploadAll(To("a"), ClientPart("t", {stored, other}), &moved));
  EXPECT_EQ(moved.skipped, 2);
  EXPECT_EQ(*Read("a", "3"), stored + other);
}

TEST_P(UploadsTest, AClientCannotClaimContentOfAnotherFingerprintOrSize) {
  const std::string stored = RandomBytes(100'000, 1), longer = RandomBytes(100'001, 2);
  ASSERT_OK(PushContents(To("a"), {stored, longer}));
  const ClientPart client("t", {RandomBytes(100'000, 3)});
  ASSERT_OK_AND_ASSIGN(const auto stream,
                       repository_->BeginPart(Begin(To("a"), "u"), 0, AsBytes(client.manifest), nullptr));
  ASSERT_OK(stream->Propose({{0, 100'000, Xxh3(AsBytes(longer))}}));
  ASSERT_OK_AND_ASSIGN(auto verdicts, stream->Prove({{0, Sha256(AsBytes(longer))}}));
  EXPECT_THAT(verdicts, ElementsAre(ChunkVerdict::kSend));
  ASSERT_OK_AND_ASSIGN(verdicts, stream->Prove({{0, Sha256(AsBytes(stored))}}));
  EXPECT_THAT(verdicts, ElementsAre(ChunkVerdict::kSend));
}

TEST_P(UploadsTest, AChunkFoundCorruptMeanwhileHasToBeSent) {
  const std::vector<std::string> contents = {RandomBytes(100'000, 1), RandomBytes(100'000, 2)};
  const ClientPart client("t", contents);
  ASSERT_OK(PushContents(To("a"), contents));
  const UploadRef ref = Begin(To("b"), "u");
  ASSERT_OK(SendPart(*repository_, ref, 0, client));
  {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "a"}, "1"}));
    Corrupt(*open, 1, 0);
    EXPECT_THAT(open->ReadChunk(1, 0), FailsWith(Reason::CHUNK_CORRUPT));
  }
  EXPECT_THAT(repository_->CommitUpload(ref), FailsWith(Reason::UPLOAD_INCOMPLETE, HasSubstr("1 of part 0")));
  ASSERT_OK_AND_ASSIGN(const Moved moved, SendPart(*repository_, ref, 0, client));
  EXPECT_EQ(moved.resumed, 1);
  EXPECT_EQ(moved.sent, 1);  // it has left the index
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, repository_->CommitUpload(ref));
  EXPECT_EQ(committed.stored_bytes, 100'000);
  EXPECT_EQ(*Read("b", "1"), BulkOf(contents));
  EXPECT_EQ(*Read("a", "1"), BulkOf(contents));  // healed
  ExpectAllSpaceBack({"a", "b"});
}

TEST_P(UploadsTest, MisuseIsNamed) {
  const ClientPart client("t", {RandomBytes(100'000, 1), RandomBytes(2000, 2)});
  const UploadRef ref = Begin(To("a"), "u", 2);
  EXPECT_THAT(repository_->BeginPart(ref, 0, {}, nullptr), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(repository_->BeginPart(ref, 0, AsBytes("junk"), nullptr), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(repository_->BeginPart({ref.run, "v"}, 0, AsBytes(client.manifest), nullptr),
              FailsWith(Reason::UPLOAD_NOT_FOUND));
  ASSERT_OK_AND_ASSIGN(auto stream, repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr));
  EXPECT_THAT(repository_->BeginPart(ref, 0, AsBytes(ClientPart("z", {}).manifest), nullptr),
              FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(stream->Propose({{2, 1, {}}}), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_THAT(stream->Propose({{0, 1, {}}}), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(stream->Prove({ChunkProof{0, Digest()}}), FailsWith(Reason::STREAM_PROTOCOL_VIOLATED));
  EXPECT_THAT(stream->Write(0, 5, AsBytes("x")), FailsWith(Reason::OFFSET_MISMATCH));
  EXPECT_THAT(stream->Write(1, 0, AsBytes(RandomBytes(2001, 1))), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_THAT(stream->Write(2, 0, AsBytes("x")), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  ASSERT_OK(stream->Write(0, 0, AsBytes("x")));
  EXPECT_THAT(stream->Write(1, 0, AsBytes("x")), FailsWith(Reason::OFFSET_MISMATCH, HasSubstr("chunk 0 at 1")));
  ASSERT_OK_AND_ASSIGN(stream, repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr));
  ASSERT_OK(stream->Propose({client.Proposal(1)}));
  ASSERT_OK(stream->Write(1, 0, AsBytes(RandomBytes(2000, 99))));
  EXPECT_THAT(stream->Flush(), FailsWith(Reason::DIGEST_MISMATCH));
  // Other content under a number that is durable.
  ASSERT_OK_AND_ASSIGN(stream, repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr));
  ASSERT_OK(stream->Write(1, 0, AsBytes(client.chunks[1])));
  ASSERT_OK(stream->Flush());
  EXPECT_THAT(stream->Propose({{1, 2000, Xxh3(AsBytes("other"))}}), FailsWith(Reason::DIGEST_MISMATCH));
  ASSERT_OK(stream->Write(1, 0, AsBytes(RandomBytes(2000, 99))));
  EXPECT_THAT(stream->Flush(), FailsWith(Reason::DIGEST_MISMATCH));
}

TEST_P(UploadsTest, AHundredThousandSmallChunks) {
  constexpr int kCount = 100'000;
  std::vector<std::string> contents;
  contents.reserve(kCount);
  for (int i = 0; i < kCount; ++i) contents.push_back(RandomBytes(1032, static_cast<uint64_t>(i)));
  const ClientPart client("t", contents);
  const UploadRef ref = Begin(To("a"), "u");
  {
    ASSERT_OK_AND_ASSIGN(const auto stream, repository_->BeginPart(ref, 0, AsBytes(client.manifest), nullptr));
    std::vector<ChunkProposal> proposals;
    for (int n = 0; n < kCount; ++n) proposals.push_back(client.Proposal(n));
    ASSERT_OK_AND_ASSIGN(const auto verdicts, stream->Propose(proposals));
    EXPECT_THAT(verdicts, Each(ChunkVerdict::kSend));
    const std::string bulk = BulkOf(contents);
    for (size_t at = 0; at < bulk.size(); at += 2 << 20) {  // messages of 2 MiB
      const auto chunk = static_cast<int64_t>(at / 1032), offset = static_cast<int64_t>(at % 1032);
      ASSERT_OK(stream->Write(chunk, offset, AsBytes(absl::string_view(bulk).substr(at, 2 << 20))));
    }
    ASSERT_OK(stream->Flush());
  }
  ASSERT_OK_AND_ASSIGN(const Upload upload, repository_->GetUpload(ref));
  EXPECT_THAT(upload.parts[0].durable, ElementsAre(ChunkRange{0, kCount - 1}));
  ASSERT_OK(repository_->CommitUpload(ref));
  Moved moved;
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, UploadAll(To("a"), client, &moved));
  EXPECT_EQ(moved.skipped, kCount);
  EXPECT_EQ(again.stored_bytes, 0);
  EXPECT_EQ(*Read("a", "2"), BulkOf(contents));
}

SCONCE_BOTH_BACKENDS(UploadsTest);

}  // namespace
}  // namespace sconce::repository
