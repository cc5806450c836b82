#include "tests/unit/storage/repository/repository_fixture.h"

// Quarantine and healing.
namespace sconce::repository {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

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
  // Flips a bit at the first place in each blob that has these bytes, and returns in how many. The blobs are opened
  // anew.
  int FlipInBlobs(absl::string_view needle, int64_t plus = 0) {
    int flipped = 0;
    if (GetParam() == Backend::kMemory) {
      const auto blobs = memory_blobs_->List();
      for (const blob::BlobId& id : *blobs) {
        const auto blob = memory_blobs_->Open(id);
        const auto bytes = (*blob)->Read(0, (*blob)->size_bytes());
        const size_t at = AsText(*bytes).find(needle);
        if (at == absl::string_view::npos) continue;
        memory_blobs_->CorruptForTest(id, static_cast<int64_t>(at) + plus);
        ++flipped;
      }
      return flipped;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "data/blobs")) {
      if (!entry.is_regular_file()) continue;
      std::string bytes(entry.file_size(), '\0');
      std::filesystem::permissions(entry.path(), std::filesystem::perms::owner_all);
      std::FILE* f = std::fopen(entry.path().c_str(), "r+b");
      EXPECT_EQ(std::fread(bytes.data(), 1, bytes.size(), f), bytes.size());
      if (size_t at = absl::string_view(bytes).find(needle); at != std::string::npos) {
        at += static_cast<size_t>(plus);
        std::fseek(f, static_cast<long>(at), SEEK_SET);
        std::fputc(bytes[at] ^ 1, f);
        ++flipped;
      }
      std::fclose(f);
    }
    Reopen();
    return flipped;
  }
  int64_t Verified() {
    const auto verification = repository_->BeginVerify({});
    EXPECT_OK(verification);
    int64_t damaged = 0;
    for (bool done = false; !done;) {
      const auto progress = (*verification)->Step();
      EXPECT_OK(progress);
      if (!progress.ok()) return -1;
      damaged += static_cast<int64_t>(progress->damaged.size());
      done = progress->done;
    }
    return damaged;
  }
  std::vector<std::string> Healed(int64_t after) {
    std::vector<std::string> healed;
    const auto changes = repository_->ReadChanges(after, {}, 1000);
    EXPECT_OK(changes);
    for (const Change& change : changes->changes) {
      if (change.kind == ChangeKind::kHealed) healed.push_back(absl::StrCat(change.run.run, "@", change.version));
    }
    return healed;
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
  EXPECT_EQ(FlipInBlobs("t0"), 1);
  EXPECT_THAT(Read("r", "2"), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Read("r", "2"), FailsWith(Reason::CHECKPOINT_QUARANTINED));
  EXPECT_EQ(Resolve("r", "latest"), 1);
  // It can be deleted, and its space comes back although its manifest cannot be read.
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "2"}, "", false, false));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 1);
}

// A name in the trees of the next tests, which a blob has in its manifest and nowhere else.
const std::vector<std::pair<std::string, double>> kNamed = {{"a name to be found", 1}};
constexpr char kName[] = "a name to be found";

TEST_P(DamageTest, PushingTheContentAgainHealsADamagedManifest) {
  const std::vector<std::string> contents = {RandomBytes(100'000, 1), RandomBytes(2000, 2), RandomBytes(300, 3)};
  ASSERT_OK(PushContents(To("r", {{"loss", 0.3}}), {RandomBytes(5000, 9)}));
  ASSERT_OK(PushContents(To("r", {{"loss", 0.2}}), contents, kNamed));
  ASSERT_OK(PushContents(To("r", {{"loss", 0.1}}), contents, kNamed));
  ASSERT_OK(PushContents(To("other"), contents, kNamed));
  PushOptions elsewhere = To("r");
  elsewhere.run.project = "elsewhere";  // projects share nothing, a healing neither
  ASSERT_OK(PushContents(elsewhere, contents, kNamed));
  EXPECT_EQ(FlipInBlobs(kName), 4);
  EXPECT_EQ(Verified(), 4);
  EXPECT_EQ(Resolve("r", "best"), 1);
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 4);
  EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 4);
  ASSERT_OK_AND_ASSIGN(const int64_t before, repository_->GetRevision());

  ASSERT_OK_AND_ASSIGN(const Checkpoint pushed, PushContents(To("third"), contents, kNamed));
  EXPECT_EQ(pushed.stored_bytes, 0) << "the chunks were never damaged";
  EXPECT_THAT(Healed(before), UnorderedElementsAre("r@2", "r@3", "other@1"));
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 1);
  EXPECT_EQ(Resolve("r", "best"), 3);
  EXPECT_EQ(Resolve("r", "latest"), 3);
  ASSERT_OK(PushContents(elsewhere, contents, kNamed));
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 0);
  // The collector makes the footers anew where the chunks still are.
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 0);
  EXPECT_THAT(Audit(), IsClean());
  EXPECT_EQ(Verified(), 0);
  EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 0);
  for (const char* version : {"2", "3"}) {
    ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", version));
    EXPECT_TRUE(read == BulkOf(contents));
  }
  // Each has a blob of its own: whichever goes, the others stay.
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "third"}, "1"}, "", false, false));
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "2"}, "", false, false));
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_OK_AND_ASSIGN(const std::string last, Read("r", "3"));
  EXPECT_TRUE(last == BulkOf(contents));
  for (const char* run : {"r", "other", "third"}) ASSERT_OK(repository_->DeleteRun({"default", run}, "", true));
  ASSERT_OK(repository_->DeleteRun({"elsewhere", "r"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(DamageTest, AManifestAndAChunkOfTheSameVersionHealTogether) {
  const std::vector<std::string> contents = {RandomBytes(100'000, 1), RandomBytes(70'000, 2)};
  ASSERT_OK(PushContents(To("r", {{"loss", 0.2}}), contents, kNamed));
  DamageAndRead("r", "1", 1, 0);
  EXPECT_EQ(FlipInBlobs(kName), 1);
  EXPECT_EQ(Verified(), 1);
  ASSERT_OK(PushContents(To("s"), {RandomBytes(70'000, 2)}));  // brings the chunk only
  EXPECT_EQ(StateOf("r", 1), CheckpointState::kQuarantined);
  ASSERT_OK(PushContents(To("s"), contents, kNamed));
  EXPECT_EQ(StateOf("r", 1), CheckpointState::kCommitted);
  EXPECT_EQ(Resolve("r", "best"), 1);
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "1"));
  EXPECT_TRUE(read == BulkOf(contents));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(DamageTest, AModuleWithADamagedManifestIsReplacedAndItsTwinHealed) {
  const std::string archive = RandomBytes(100'000, 4);
  const auto push = [&](const std::string& run, const std::string& module) -> absl::Status {
    const auto begun = repository_->BeginModulePush({"default", run}, module, 100'000, {}, true);
    if (!begun.ok()) return begun.status();
    const absl::Status written = (*begun)->Write(AsBytes(archive));
    return written.ok() ? (*begun)->Commit().status() : written;
  };
  ASSERT_OK(push("r", "net"));
  ASSERT_OK(push("r", "twin"));
  EXPECT_EQ(FlipInBlobs("untyped"), 2);
  EXPECT_EQ(Verified(), 2);
  EXPECT_THAT(repository_->OpenReadModule({"default", "r"}, "twin"), FailsWith(Reason::CHUNK_CORRUPT));
  ASSERT_OK(push("r", "net"));
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 0);
  for (const char* module : {"net", "twin"}) {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenReadModule({"default", "r"}, module));
    ASSERT_OK_AND_ASSIGN(const std::string read, ReadBulk(*open));
    EXPECT_TRUE(read == archive);
  }
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(DamageTest, ADamagedFooterIsMadeAnewFromTheCatalog) {
  const std::vector<std::string> contents = {RandomBytes(100'000, 1), RandomBytes(70'000, 2), RandomBytes(3000, 5)};
  ASSERT_OK(PushContents(To("r"), contents, kNamed));
  ASSERT_OK(PushContents(To("r"), {contents[1], RandomBytes(80'000, 7)}));
  // Its chunk table names the chunk by its SHA-256, behind which there is nothing else but the manifest.
  const Digest chunk = Sha256(AsBytes(contents[2]));
  EXPECT_EQ(FlipInBlobs(chunk.AsKey(), 3), 1);
  EXPECT_EQ(Verified(), 0) << "every byte is served right";
  EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 1);
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 0);
  EXPECT_THAT(Audit(), IsClean());
  EXPECT_EQ(Verified(), 0);
  EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 0);
  for (const char* version : {"1", "2"}) ASSERT_OK(Read("r", version));
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
