#include "storage/repository/scrubber.h"

#include "storage/catalog/keys.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

class ScrubberTest : public RepositoryTest {
 protected:
  Store& store() { return static_cast<LocalRepository&>(*repository_).StoreForTest(); }

  // Steps until the scrub would wait until the next day; the clock is turned by what it wants to wait before. Returns
  // how long that was together.
  absl::Duration RunRound(Scrubber& scrubber) {
    absl::Duration waited;
    for (int i = 0; i < 10'000; ++i) {
      const auto wait = scrubber.Step();
      EXPECT_OK(wait);
      if (!wait.ok() || *wait > absl::Hours(1)) return waited;
      waited += *wait;
      clock_.Turn(*wait);
    }
    ADD_FAILURE() << "the round does not end";
    return waited;
  }

  void CorruptChunk(const std::string& run, format::StorageIndex storage, int64_t chunk) {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", run}, "latest"}));
    Corrupt(*open, storage, chunk);
  }

  records::ScrubRecord Position() {
    const auto stored = store().catalog->Get(catalog::ScrubKey());
    EXPECT_OK(stored);
    return ParseRecord<records::ScrubRecord>(stored->value_or("")).value();
  }
};
SCONCE_BOTH_BACKENDS(ScrubberTest);

TEST_P(ScrubberTest, ARoundFindsDamageNobodyHasMet) {
  ASSERT_OK(PushContents(To("a", {{"loss", 2}}), {RandomBytes(100'000, 1)}));
  ASSERT_OK(PushContents(To("a", {{"loss", 1}}), {RandomBytes(9 << 20, 2)}));
  ASSERT_OK(PushContents(To("b"), {RandomBytes(100'000, 3)}));
  CorruptChunk("a", 0, 2);
  Scrubber scrubber(store(), 1 << 20);
  const absl::Duration waited = RunRound(scrubber);
  EXPECT_EQ(Resolve("a", "best"), 1);
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 1);
  EXPECT_EQ(repository_->GetIntegrity().last_scrub_time, clock_.Now());
  EXPECT_GE(waited, absl::Seconds(9)) << "9 MiB at 1 MiB/s";
  EXPECT_LE(waited, absl::Seconds(10));
}

TEST_P(ScrubberTest, TheNextRoundBeginsADayAfterTheLastOneBegan) {
  ASSERT_OK(PushContents(To("a"), {RandomBytes(100'000, 1)}));
  Scrubber scrubber(store(), 20 << 20);
  RunRound(scrubber);
  CorruptChunk("a", 0, 0);
  ASSERT_OK_AND_ASSIGN(const absl::Duration wait, scrubber.Step());
  EXPECT_GT(wait, absl::Hours(23));
  EXPECT_LE(wait, absl::Hours(24));
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 0);
  clock_.Turn(wait);
  RunRound(scrubber);
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 1);
}

TEST_P(ScrubberTest, ANewProcessGoesOnWhereTheLastOneWas) {
  for (uint64_t i = 0; i < 5; ++i) ASSERT_OK(PushContents(To("a"), {RandomBytes(5 << 20, i)}));
  std::string half_way;
  {
    Scrubber scrubber(store(), 20 << 20);
    while (half_way.empty()) {
      ASSERT_OK(scrubber.Step());
      clock_.Turn(absl::Seconds(20));
      half_way = Position().after_blob();
    }
  }
  Reopen();
  Scrubber scrubber(store(), 20 << 20);
  std::vector<std::string> positions;
  while (!Position().blobs_done()) {
    ASSERT_OK(scrubber.Step());
    clock_.Turn(absl::Minutes(2));
    positions.push_back(Position().after_blob());
  }
  EXPECT_EQ(positions.front(), half_way);
  positions.pop_back();
  EXPECT_TRUE(std::is_sorted(positions.begin(), positions.end()));
}

TEST_P(ScrubberTest, AnEmptyStoreIsScrubbed) {
  Scrubber scrubber(store(), 20 << 20);
  RunRound(scrubber);
  EXPECT_EQ(repository_->GetIntegrity().last_scrub_time, clock_.Now());
}

TEST_P(ScrubberTest, TheThreadDoesTheSame) {
  ASSERT_OK(PushContents(To("a"), {RandomBytes(9 << 20, 1)}));
  CorruptChunk("a", 0, 0);
  Mutex mu;
  CondVar changed;
  bool found = false;
  repository_->SetIntegrityListener([&](const Integrity& state) {
    MutexLock lock(&mu);
    found = state.quarantined == 1 && state.last_scrub_time;
    changed.SignalAll();
  });
  {
    Scrubber scrubber(store(), int64_t{1} << 40);
    scrubber.Start();
    MutexLock lock(&mu);
    while (!found) changed.Wait(&mu);
  }
  repository_->SetIntegrityListener([](const Integrity&) {});
}

// With a catalog whose answers a test chooses.
class ScrubberCatalogTest : public ScrubberTest {};
INSTANTIATE_TEST_SUITE_P(Memory, ScrubberCatalogTest, ::testing::Values(Backend::kMemory), BackendName);

TEST_P(ScrubberCatalogTest, ADamagedCatalogIsFoundAtTheEndOfARound) {
  memory_catalog_->FailVerifyForTest(MakeError(Reason::CATALOG_CORRUPT, "a block is damaged"));
  Scrubber scrubber(store(), 20 << 20);
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) status = scrubber.Step().status();
  EXPECT_THAT(status, FailsWith(Reason::CATALOG_CORRUPT));
  EXPECT_TRUE(repository_->GetIntegrity().catalog_corrupt);
  EXPECT_FALSE(repository_->GetIntegrity().last_scrub_time);
}

}  // namespace
}  // namespace sconce::repository
