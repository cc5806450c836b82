#include "storage/repository/compactor.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "storage/blob/footer.h"
#include "storage/catalog/keys.h"
#include "storage/repository/blob_sweeper.h"
#include "storage/repository/reference_dropper.h"
#include "storage/repository/stored_object.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

class CompactorTest : public RepositoryTest {
 protected:
  absl::Status Delete(const std::string& run, const std::string& selector) {
    return repository_->DeleteCheckpoint({{"default", run}, selector}, "", false, false);
  }
  CollectReport Collect() {
    const auto report = repository_->CollectGarbage();
    EXPECT_OK(report);
    return report.value_or(CollectReport());
  }
  void ExpectCompact() {
    const auto audit = Audit();
    ASSERT_THAT(audit, IsClean());
    EXPECT_LE(static_cast<double>(audit->physical_bytes), 1.05 * static_cast<double>(audit->live_bytes));
  }
  // Versions of run r with a large chunk of their own and a small one each that the one version of run keep shares.
  void LeaveRemnants(int count) {
    std::vector<std::string> kept;
    for (int i = 0; i < count; ++i) {
      kept.push_back(RandomBytes(2000 + static_cast<size_t>(i), 100 + static_cast<uint64_t>(i)));
      ASSERT_OK(PushContents(To("r"), {RandomBytes(100'000, 500 + static_cast<uint64_t>(i)), kept.back()}));
    }
    ASSERT_OK(PushContents(To("keep"), kept));
    kept_ = BulkOf(kept);
    for (int i = 1; i <= count; ++i) ASSERT_OK(Delete("r", absl::StrCat(i)));
  }
  void ExpectKept() {
    ASSERT_OK_AND_ASSIGN(const std::string read, Read("keep", "1"));
    EXPECT_TRUE(read == kept_);
  }

  std::string kept_;
};
SCONCE_BOTH_BACKENDS(CompactorTest);

TEST_P(CompactorTest, WhatDeadOwnersLeftBecomesOneBlob) {
  LeaveRemnants(30);
  Collect();
  EXPECT_EQ(Stats().blobs, 2);  // the kept version's own, and what it shares
  ExpectKept();
  ExpectCompact();
  ExpectKept();
  ASSERT_OK(Delete("keep", "1"));
  Collect();
  EXPECT_EQ(Stats().blobs, 0);
  ExpectCompact();
}

TEST_P(CompactorTest, ALivingOwnersBlobIsCopiedWithItsFooterAndNothingElseChanges) {
  const std::string content = RandomBytes(9 << 20, 1), own = RandomBytes(100'000, 2);
  // Both send the content before either commits: the second one's copy is dead.
  ASSERT_OK_AND_ASSIGN(auto first, Send(To("r"), TensorManifest({content}), content));
  ASSERT_OK_AND_ASSIGN(auto second, Send(To("s", {{"loss", 1}}), TensorManifest({content, own}), content + own));
  ASSERT_OK(first->Commit());
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, second->Commit());
  first.reset();
  second.reset();
  Collect();
  EXPECT_LT(Stats().physical_bytes, 10 << 20);
  ASSERT_OK_AND_ASSIGN(const Checkpoint now, repository_->GetCheckpoint({{"default", "s"}, "best"}));
  EXPECT_EQ(now.etag, committed.etag);
  EXPECT_EQ(now.manifest_digest, committed.manifest_digest);
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("s", "1"));
  EXPECT_TRUE(read == content + own);
  ExpectCompact();
  ASSERT_OK(Delete("s", "1"));  // from its new place
  Collect();
  EXPECT_EQ(Stats().blobs, 1);
  ExpectCompact();
}

TEST_P(CompactorTest, AModulesBlobIsCopiedToo) {
  const std::string archive = RandomBytes(300'000, 1), more = RandomBytes(300'000, 2);
  const auto send = [&](const std::string& name) {
    auto push = repository_->BeginModulePush({"default", "r"}, name, 600'000, {}, true);
    EXPECT_OK(push);
    EXPECT_OK((*push)->Write(AsBytes(archive + more)));
    return *std::move(push);
  };
  auto first = send("a"), second = send("b");
  ASSERT_OK(first->Commit());
  ASSERT_OK(second->Commit());
  first.reset();
  second.reset();
  Collect();
  EXPECT_LT(Stats().physical_bytes, 700'000);
  {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenReadModule({"default", "r"}, "b"));
    ASSERT_OK_AND_ASSIGN(const std::string read, ReadBulk(*open));
    EXPECT_TRUE(read == archive + more);
  }
  ExpectCompact();
}

TEST_P(CompactorTest, HealedContentLeavesNoDeadCopyBehind) {
  const std::string content = RandomBytes(5 << 20, 1);
  ASSERT_OK(PushContents(To("r"), {content}));
  {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "r"}, "1"}));
    Corrupt(*open, 0, 0);
    EXPECT_THAT(open->ReadChunk(0, 0), FailsWith(Reason::CHUNK_CORRUPT));
  }
  Collect();
  ASSERT_THAT(Audit(), IsClean());
  ASSERT_OK(PushContents(To("r"), {content}));
  Collect();
  ExpectCompact();
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "1"));
  EXPECT_TRUE(read == content);
}

TEST_P(CompactorTest, APushFindsWhatItSharesAtItsNewPlace) {
  const std::string shared = RandomBytes(80'000, 1), more = RandomBytes(90'000, 3);
  ASSERT_OK(PushContents(To("r"), {shared, RandomBytes(3 << 20, 2)}));
  ASSERT_OK(PushContents(To("keep"), {shared}));
  ASSERT_OK_AND_ASSIGN(auto push, Send(To("s"), TensorManifest({shared, more}), shared));
  ASSERT_OK(Delete("r", "1"));
  Collect();
  EXPECT_LT(Stats().physical_bytes, 1 << 20);  // moved
  ASSERT_OK(push->Write(AsBytes(more)));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, push->Commit());
  push.reset();
  EXPECT_EQ(checkpoint.deduplicated_bytes, 80'000);
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("s", "1"));
  EXPECT_TRUE(read == shared + more);
  Collect();
  ExpectCompact();
}

TEST_P(CompactorTest, ReadersGoOnWhateverMoves) {
  LeaveRemnants(4);
  ASSERT_OK_AND_ASSIGN(const auto held, repository_->OpenRead({{"default", "keep"}, "1"}));
  std::atomic<bool> done{false};
  std::atomic<int> reads{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      while (!done || reads == 0) {
        const auto read = Read("keep", "1");
        ASSERT_OK(read);
        ASSERT_TRUE(*read == kept_);
        ++reads;
      }
    });
  }
  // Every round moves what the readers read: two remnants more, a merge, and so on.
  for (int round = 0; round < 25; ++round) {
    const uint64_t seed = 1000 + static_cast<uint64_t>(round);
    const std::string shared = RandomBytes(3000, seed);
    ASSERT_OK(PushContents(To("r"), {shared, RandomBytes(70'000, seed + 500)}));
    ASSERT_OK(PushContents(To("s"), {shared}));
    ASSERT_OK(Delete("r", "latest"));
    Collect();
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  ASSERT_OK_AND_ASSIGN(const std::string read, ReadBulk(*held));  // from files without a name by now
  EXPECT_TRUE(read == kept_);
  EXPECT_EQ(Resolve("keep", "latest"), 1);  // nothing was quarantined for having moved
}

// The stages by hand, without a collector that runs by itself.
class CompactorPaceTest : public ::testing::Test {
 protected:
  // `count` blobs of 9 MiB each, of which 4 MiB are needed, in projects of their own.
  void Fill(int count) {
    LocalRepository repository(store_);
    const std::string kept = RandomBytes(4 << 20, 1), dropped = RandomBytes(5 << 20, 2);
    const auto push = [&](const std::string& project, const std::vector<std::string>& contents) {
      PushOptions options;
      options.run = {project, "r"};
      auto pushed = repository.BeginPush(options, TensorManifest(contents));
      ASSERT_OK(pushed);
      ASSERT_OK((*pushed)->Write(AsBytes(BulkOf(contents))));
      ASSERT_OK((*pushed)->Commit());
    };
    const std::vector<Digest> pinned = {Sha256(AsBytes(absl::string_view(dropped).substr(0, 4 << 20)))};
    for (int i = 0; i < count; ++i) {
      const std::string project = absl::StrCat("p", i);
      push(project, {kept, dropped});
      push(project, {kept});
      // As a push in progress would: the collector's thread cannot get through.
      ASSERT_OK_AND_ASSIGN(const auto project_uid, FindProject(*store_->catalog, project));
      pins_.push_back(std::make_unique<PinSet>(store_->pins, *project_uid));
      pins_.back()->Add(pinned);
      ASSERT_OK(repository.DeleteCheckpoint({{project, "r"}, "1"}, "", false, false));
    }
  }
  // References, then blobs, then compaction.
  absl::Status Stages(const Pace& pace, CollectReport& report) {
    SCONCE_RETURN_IF_ERROR(ReferenceDropper(*store_).Run(stop_, report));
    SCONCE_RETURN_IF_ERROR(BlobSweeper(*store_).Run(stop_, report));
    return Compactor(*store_).Run(stop_, pace, report);
  }
  void ExpectKept() {
    ASSERT_OK_AND_ASSIGN(const auto open, OpenStoredCheckpoint(store_, {{"p0", "r"}, "2"}));
    ASSERT_OK_AND_ASSIGN(const auto chunk, open->ReadChunk(0, 0));
    EXPECT_TRUE(AsText(chunk.bytes) == RandomBytes(4 << 20, 1));
  }
  void SetUp() override {
    std::filesystem::create_directories(dir_ / "uploads");
    store_->options.data_dir = dir_.path();
    store_->options.clock = &clock_;
    store_->options.min_free_bytes = 0;
    store_->options.compact_bytes_per_second = 1 << 20;
    auto catalog = std::make_unique<catalog::MemoryCatalog>();
    catalog_ = catalog.get();
    store_->catalog = std::move(catalog);
    auto blobs = std::make_unique<blob::MemoryBlobStore>();
    blobs_ = blobs.get();
    store_->blobs = std::move(blobs);
    auto deletions = DeletionLog::Open(PosixFileSystem(), dir_.path());
    ASSERT_OK(deletions);
    store_->deletions = *std::move(deletions);
  }
  void Sweep() {
    pins_.clear();
    CollectReport report;
    ASSERT_OK(ReferenceDropper(*store_).Run(stop_, report));
    ASSERT_OK(BlobSweeper(*store_).Run(stop_, report));
  }

  TempDir dir_;
  TurnedClock clock_;
  std::shared_ptr<Store> store_ = std::make_shared<Store>();
  catalog::MemoryCatalog* catalog_ = nullptr;
  blob::MemoryBlobStore* blobs_ = nullptr;
  std::vector<std::unique_ptr<PinSet>> pins_;
  StopSignal stop_;
};

TEST_F(CompactorPaceTest, CopiesNoFasterThanTheRate) {
  Fill(1);
  Sweep();
  absl::Duration waited;
  Pace pace;
  pace.wait = [&](absl::Duration timeout) {
    waited += timeout;
    clock_.Turn(timeout);
  };
  CollectReport report;
  Compactor compactor(*store_);
  ASSERT_OK(compactor.Run(stop_, pace, report));
  EXPECT_EQ(report.compacted_blobs, 1);
  EXPECT_GT(report.freed_bytes, 4 << 20);
  EXPECT_GE(waited, absl::Seconds(3.9));  // 4 MiB at 1 MiB a second
  EXPECT_LE(waited, absl::Seconds(4.1));
  EXPECT_THAT(AuditStore(*store_->catalog, *store_->blobs), IsClean());
}

TEST_F(CompactorPaceTest, ABadChunkIsQuarantinedWhereItIsAndItsBlobLeftAlone) {
  Fill(1);
  Sweep();
  ASSERT_OK_AND_ASSIGN(const auto ids, blobs_->List());
  for (const blob::BlobId& id : ids) {
    ASSERT_OK_AND_ASSIGN(const auto blob, blobs_->Open(id));
    ASSERT_OK_AND_ASSIGN(const blob::FooterView footer, blob::ReadFooter(*blob));
    if (blob->size_bytes() < 1 << 20) continue;
    // All of them: in which order the threads of the push wrote them is open, so which is the one still needed too.
    for (const blob::FooterChunk& chunk : footer.chunks) blobs_->CorruptForTest(id, chunk.offset);
  }
  CollectReport report;
  Compactor compactor(*store_);
  ASSERT_OK(compactor.Run(stop_, {}, report));
  EXPECT_EQ(report.compacted_blobs, 0);
  EXPECT_THAT(AuditStore(*catalog_, *blobs_), IsClean());  // known to be bad, and everything else as it was
  ASSERT_OK_AND_ASSIGN(const auto waste, FirstOf(*catalog_, catalog::WastePrefix(), 10));
  EXPECT_TRUE(waste.empty());  // not tried again before something about it changes
  EXPECT_THAT(OpenStoredCheckpoint(store_, {{"p0", "r"}, "2"}), FailsWith(Reason::CHECKPOINT_QUARANTINED));
}

TEST_F(CompactorPaceTest, StoppedAtAnyBatchNothingIsLost) {
  Fill(1);
  pins_.clear();
  int stopped = 0;
  for (bool through = false; !through; ++stopped) {
    ASSERT_LT(stopped, 20);
    CollectReport report;
    catalog_->FailApplyForTest(MakeError(Reason::IO_ERROR, "the disk is gone"), stopped);  // ever later
    through = Stages({}, report).ok();
    catalog_->FailApplyForTest(absl::OkStatus());
    const auto audit = AuditStore(*catalog_, *blobs_);
    EXPECT_THAT(audit, IsConsistent());
    ExpectKept();
  }
  EXPECT_GE(stopped, 3);
}

TEST_F(CompactorPaceTest, AnUnknownOutcomeLeavesBothPlacesForTheNextStartToDecide) {
  Fill(1);
  Sweep();
  catalog_->FailApplyForTest(catalog::Undecided(MakeError(Reason::IO_ERROR, "the disk is gone")));
  CollectReport report;
  EXPECT_THAT(Compactor(*store_).Run(stop_, {}, report), FailsWith(Reason::IO_ERROR));
  catalog_->FailApplyForTest(absl::OkStatus());
  const auto audit = AuditStore(*catalog_, *blobs_);
  EXPECT_THAT(audit, IsConsistent());
  EXPECT_THAT(audit->leaks, ::testing::ElementsAre(::testing::HasSubstr("does not know")));
}

TEST_F(CompactorPaceTest, AFullDiskPostponesIt) {
  Fill(1);
  Sweep();
  blobs_->SetCapacityForTest(1);
  CollectReport report;
  Compactor compactor(*store_);
  ASSERT_OK(compactor.Run(stop_, {}, report));
  EXPECT_EQ(report.compacted_blobs, 0);
  EXPECT_THAT(AuditStore(*catalog_, *blobs_), IsClean());
  blobs_->SetCapacityForTest(INT64_MAX);
  ASSERT_OK(compactor.Run(stop_, {}, report));
  EXPECT_EQ(report.compacted_blobs, 1);
  EXPECT_THAT(AuditStore(*catalog_, *blobs_), IsClean());
}

TEST_F(CompactorPaceTest, GivesWayBetweenTwoBlobsAndGoesOnLater) {
  Fill(3);
  Sweep();
  Pace pace;
  pace.yield = [] { return true; };
  Compactor compactor(*store_);
  for (int i = 1; i <= 3; ++i) {
    CollectReport report;
    ASSERT_OK(compactor.Run(stop_, pace, report));
    EXPECT_EQ(report.compacted_blobs, 1);
    EXPECT_THAT(AuditStore(*store_->catalog, *store_->blobs), IsClean());
  }
  CollectReport report;
  ASSERT_OK(compactor.Run(stop_, {}, report));
  EXPECT_EQ(report.compacted_blobs, 0);
}

TEST_F(CompactorPaceTest, AClosingRepositoryDoesNotWaitForIt) {
  Fill(2);
  Sweep();
  Pace pace;
  pace.wait = [&](absl::Duration) { stop_.Request(); };
  CollectReport report;
  Compactor compactor(*store_);
  ASSERT_OK(compactor.Run(stop_, pace, report));
  EXPECT_EQ(report.compacted_blobs, 0);
  EXPECT_THAT(AuditStore(*store_->catalog, *store_->blobs), IsClean());
}

}  // namespace
}  // namespace sconce::repository
