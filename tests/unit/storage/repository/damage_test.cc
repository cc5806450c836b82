#include "tests/unit/storage/repository/repository_fixture.h"

// Quarantine and healing.
namespace sconce::repository {
namespace {

using ::testing::HasSubstr;

class DamageTest : public RepositoryTest {
 protected:
  CheckpointState StateOf(const std::string& run, int64_t version) {
    const auto checkpoint = repository_->GetCheckpoint({{"default", run}, absl::StrCat(version)});
    EXPECT_OK(checkpoint);
    return checkpoint->state;
  }
  // Damages the chunk of an open version and reads it, as a fetch would.
  void DamageAndRead(const std::string& run, const std::string& selector, format::StorageIndex storage, int64_t chunk) {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", run}, selector}));
    Corrupt(*open, storage, chunk);
    EXPECT_THAT(open->ReadChunk(storage, chunk), FailsWith(Reason::CHUNK_CORRUPT));
  }
};
SCONCE_BOTH_BACKENDS(DamageTest);

const std::string& Shared() {
  static const auto* const shared = new std::string(RandomBytes(9 << 20, 1));
  return *shared;
}

TEST_P(DamageTest, EverySharerIsQuarantinedAndLatestAndBestFallBack) {
  ASSERT_OK(PushContents(To("r", {{"loss", 0.3}}), {RandomBytes(100'000, 9)}));
  ASSERT_OK(PushContents(To("r", {{"loss", 0.2}}), {Shared()}));
  ASSERT_OK(PushContents(To("r", {{"loss", 0.1}}), {RandomBytes(100'000, 8), Shared()}));
  ASSERT_OK(PushContents(To("other", {{"loss", 0.1}}), {Shared()}));
  EXPECT_EQ(Resolve("r", "best"), 3);
  DamageAndRead("r", "3", 1, 2);
  Reopen();
  EXPECT_EQ(StateOf("r", 1), CheckpointState::kCommitted);
  EXPECT_EQ(StateOf("r", 2), CheckpointState::kQuarantined);
  EXPECT_EQ(StateOf("r", 3), CheckpointState::kQuarantined);
  EXPECT_EQ(StateOf("other", 1), CheckpointState::kQuarantined);
  EXPECT_EQ(Resolve("r", "best"), 1);
  EXPECT_EQ(Resolve("r", "latest"), 1);
  EXPECT_THAT(repository_->GetCheckpoint({{"default", "other"}, "latest"}), FailsWith(Reason::LATEST_UNDEFINED));
  EXPECT_THAT(repository_->GetCheckpoint({{"default", "other"}, "best"}), FailsWith(Reason::BEST_UNDEFINED));
  EXPECT_THAT(Read("r", "3"), FailsWith(Reason::CHECKPOINT_QUARANTINED, HasSubstr("version 3")));
  ASSERT_OK(Read("r", "1"));
}

TEST_P(DamageTest, WholeChunksOfAQuarantinedVersionStillServeThoseWhoHaveItOpen) {
  ASSERT_OK(PushContents(To("r"), {Shared()}));
  ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "r"}, "1"}));
  Corrupt(*open, 0, 1);
  EXPECT_OK(open->ReadChunk(0, 0));
  EXPECT_THAT(open->ReadChunk(0, 1), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(open->ReadChunk(0, 1), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_OK(open->ReadChunk(0, 2));
}

TEST_P(DamageTest, PushingTheContentAgainHealsAll) {
  ASSERT_OK(PushContents(To("r", {{"loss", 0.2}}), {Shared()}));
  ASSERT_OK(PushContents(To("r", {{"loss", 0.1}}), {RandomBytes(70'000, 2), Shared()}));
  ASSERT_OK_AND_ASSIGN(auto open, repository_->OpenRead({{"default", "r"}, "2"}));
  for (const format::StorageIndex storage : {0, 1}) {
    Corrupt(*open, storage, 0);
    EXPECT_THAT(open->ReadChunk(storage, 0), FailsWith(Reason::CHUNK_CORRUPT));
  }
  open = nullptr;
  ASSERT_OK_AND_ASSIGN(const Checkpoint third, PushContents(To("r", {{"loss", 0.3}}), {Shared()}));
  EXPECT_EQ(third.stored_bytes, 4 << 20);  // only the bad chunk is stored anew
  EXPECT_EQ(StateOf("r", 1), CheckpointState::kCommitted);
  EXPECT_EQ(StateOf("r", 2), CheckpointState::kQuarantined);  // its own small storage is still bad
  EXPECT_EQ(Resolve("r", "best"), 1);
  ASSERT_OK_AND_ASSIGN(const std::string first, Read("r", "1"));
  EXPECT_TRUE(first == Shared());
  ASSERT_OK(PushContents(To("other"), {RandomBytes(70'000, 2)}));
  Reopen();
  EXPECT_EQ(StateOf("r", 2), CheckpointState::kCommitted);
  EXPECT_EQ(Resolve("r", "best"), 2);
  ASSERT_OK(Read("r", "2"));
  // What the damaged blob still holds stays readable when the collector has been over it.
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_OK(Read("r", "1"));
  ASSERT_OK(Read("r", "2"));
}

TEST_P(DamageTest, ALargeVersionIsReadFromItsNewPlaceOnceHealed) {
  std::vector<std::string> contents;
  for (uint64_t i = 0; i < 6000; ++i) contents.push_back(RandomBytes(1100, i));
  ASSERT_OK(PushContents(To("r"), contents));
  ASSERT_OK(Read("r", "1"));  // large enough to be kept in the cache of what was opened last
  DamageAndRead("r", "1", 3, 0);
  ASSERT_OK(PushContents(To("s"), contents));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "1"));
    EXPECT_TRUE(read == BulkOf(contents));
  }
  for (const char* run : {"r", "s"}) ASSERT_OK(repository_->DeleteRun({"default", run}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(DamageTest, AMetricAddedInQuarantineCountsAfterHealing) {
  ASSERT_OK(PushContents(To("r"), {Shared()}));
  ASSERT_OK(PushContents(To("r", {{"loss", 0.5}}), {}));
  DamageAndRead("r", "1", 0, 0);
  CheckpointUpdate update;
  update.add_metrics = {{"loss", 0.1}};
  ASSERT_OK(repository_->UpdateCheckpoint({{"default", "r"}, "1"}, update));
  EXPECT_EQ(Resolve("r", "best"), 2);
  ASSERT_OK(PushContents(To("r"), {Shared()}));
  EXPECT_EQ(Resolve("r", "best"), 1);
}

TEST_P(DamageTest, ADamagedManifestQuarantinesItsVersion) {
  ASSERT_OK(PushContents(To("r"), {}));
  ASSERT_OK(PushContents(To("r"), {RandomBytes(2000, 1)}));
  if (GetParam() == Backend::kMemory) {
    ASSERT_OK_AND_ASSIGN(const auto blobs, memory_blobs_->List());
    for (const auto& id : blobs) {
      ASSERT_OK_AND_ASSIGN(const auto blob, memory_blobs_->Open(id));
      ASSERT_OK_AND_ASSIGN(const ByteSpan bytes, blob->Read(0, blob->size_bytes()));
      const size_t at = AsText(bytes).find("t0");
      if (at != absl::string_view::npos) memory_blobs_->CorruptForTest(id, static_cast<int64_t>(at));
    }
  } else {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "data/blobs")) {
      if (!entry.is_regular_file()) continue;
      std::string path = entry.path(), bytes(entry.file_size(), '\0');
      std::filesystem::permissions(path, std::filesystem::perms::owner_all);
      std::FILE* f = std::fopen(path.c_str(), "r+b");
      ASSERT_EQ(std::fread(bytes.data(), 1, bytes.size(), f), bytes.size());
      if (const size_t at = bytes.find("t0"); at != std::string::npos) {
        std::fseek(f, static_cast<long>(at), SEEK_SET);
        std::fputc('T', f);
      }
      std::fclose(f);
    }
    Reopen();
  }
  EXPECT_THAT(Read("r", "2"), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Read("r", "2"), FailsWith(Reason::CHECKPOINT_QUARANTINED));
  EXPECT_EQ(Resolve("r", "latest"), 1);
  // It can be deleted, and its space comes back although its manifest cannot be read.
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "2"}, "", false, false));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 1);
}

TEST_P(DamageTest, ALostBlobIsDamage) {
  ASSERT_OK(PushContents(To("r"), {}));
  ASSERT_OK(PushContents(To("r"), {Shared()}));
  ASSERT_OK(PushContents(To("s"), {Shared()}));
  if (GetParam() == Backend::kMemory) {
    ASSERT_OK_AND_ASSIGN(const auto blobs, memory_blobs_->List());
    for (const auto& id : blobs) {
      ASSERT_OK_AND_ASSIGN(const auto blob, memory_blobs_->Open(id));
      if (blob->size_bytes() > (8 << 20)) {
        ASSERT_OK(memory_blobs_->Remove(id));
      }
    }
  } else {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "data/blobs")) {
      if (entry.is_regular_file() && entry.file_size() > (8 << 20)) std::filesystem::remove(entry.path());
    }
    Reopen();
  }
  EXPECT_THAT(Read("s", "1"), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_EQ(StateOf("r", 2), CheckpointState::kQuarantined);
  EXPECT_EQ(StateOf("s", 1), CheckpointState::kQuarantined);
  EXPECT_EQ(Resolve("r", "latest"), 1);
}

}  // namespace
}  // namespace sconce::repository
