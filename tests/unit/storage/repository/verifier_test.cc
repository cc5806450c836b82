#include "storage/repository/verifier.h"

#include "absl/strings/str_cat.h"
#include "storage/blob/footer.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class VerifierTest : public RepositoryTest {
 protected:
  struct Result {
    std::vector<std::string> damaged;  // "run@version"
    VerifyProgress last;
    int steps = 0;
  };

  Result Verify(const VerifyScope& scope = {}) {
    Result result;
    const auto verification = repository_->BeginVerify(scope);
    EXPECT_OK(verification);
    if (!verification.ok()) return result;
    int64_t before = 0;
    do {
      const auto progress = (*verification)->Step();
      EXPECT_OK(progress);
      if (!progress.ok()) return result;
      EXPECT_GE(progress->verified_bytes, before);
      EXPECT_GE(progress->total_bytes, progress->verified_bytes);
      before = progress->verified_bytes;
      for (const ObjectName& name : progress->damaged) {
        result.damaged.push_back(
            absl::StrCat(name.run.run, "@", name.version == 0 ? name.module : absl::StrCat(name.version)));
      }
      result.last = *progress;
      ++result.steps;
    } while (!result.last.done);
    return result;
  }

  void CorruptChunk(const std::string& run, const std::string& selector, format::StorageIndex storage, int64_t chunk) {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", run}, selector}));
    Corrupt(*open, storage, chunk);
  }

  // Flips a bit at `from_end` bytes before the end of the one blob whose size is more than `larger_than`.
  void FlipFromEnd(int64_t from_end, int64_t larger_than = 0) {
    if (GetParam() == Backend::kMemory) {
      ASSERT_OK_AND_ASSIGN(const auto ids, memory_blobs_->List());
      for (const blob::BlobId& id : ids) {
        const int64_t size = (*memory_blobs_->Open(id))->size_bytes();
        if (size > larger_than) memory_blobs_->CorruptForTest(id, size - from_end);
      }
      return;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "data/blobs")) {
      if (!entry.is_regular_file() || static_cast<int64_t>(entry.file_size()) <= larger_than) continue;
      std::filesystem::permissions(entry.path(), std::filesystem::perms::owner_all);
      std::FILE* f = std::fopen(entry.path().c_str(), "r+b");
      std::fseek(f, static_cast<long>(-from_end), SEEK_END);
      const int byte = std::fgetc(f);
      std::fseek(f, static_cast<long>(-from_end), SEEK_END);
      std::fputc(byte ^ 1, f);
      std::fclose(f);
    }
  }

  const std::string large_ = RandomBytes(9 << 20, 1);
};
SCONCE_BOTH_BACKENDS(VerifierTest);

TEST_P(VerifierTest, AWholeStoreIsFoundWholeAndEachSharedChunkIsReadOnce) {
  ASSERT_OK(PushContents(To("a"), {large_, RandomBytes(70'000, 2), RandomBytes(2000, 3)}));
  ASSERT_OK(PushContents(To("a"), {large_, RandomBytes(70'000, 4)}));
  ASSERT_OK(PushContents(To("b"), {large_}));
  ASSERT_OK(PushContents(To("b"), {}));
  const Result result = Verify();
  EXPECT_THAT(result.damaged, IsEmpty());
  EXPECT_EQ(result.last.chunks, 3 + 3) << "three of the large one, once, and the three small ones";
  EXPECT_EQ(result.last.blobs, 4);
  EXPECT_EQ(result.last.verified_bytes, result.last.total_bytes);
  EXPECT_GE(result.last.verified_bytes, 9 << 20);
  EXPECT_GT(result.steps, 5);
  EXPECT_EQ(repository_->GetIntegrity().failures, 0);
}

TEST_P(VerifierTest, ADamagedChunkQuarantinesItsSharersBeforeAnybodyReadsIt) {
  ASSERT_OK(PushContents(To("a", {{"loss", 0.5}}), {RandomBytes(70'000, 2)}));
  ASSERT_OK(PushContents(To("a", {{"loss", 0.1}}), {large_}));
  ASSERT_OK(PushContents(To("b"), {large_, RandomBytes(70'000, 4)}));
  CorruptChunk("a", "2", 0, 1);
  EXPECT_THAT(Verify().damaged, UnorderedElementsAre("a@2", "b@1"));
  EXPECT_EQ(Resolve("a", "best"), 1);
  EXPECT_EQ(Resolve("a", "latest"), 1);
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 2);
  EXPECT_EQ(repository_->GetIntegrity().failures, 1);
  EXPECT_THAT(Verify().damaged, UnorderedElementsAre("a@2", "b@1")) << "it is still so";
  EXPECT_EQ(repository_->GetIntegrity().failures, 1) << "found once";

  ASSERT_OK(PushContents(To("c"), {large_}));
  EXPECT_THAT(Verify().damaged, IsEmpty());
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 0);
  EXPECT_EQ(Resolve("a", "best"), 2);
}

TEST_P(VerifierTest, OnlyWhatWasAskedForIsRead) {
  ASSERT_OK(PushContents(To("a"), {large_}));
  ASSERT_OK(PushContents(To("a"), {RandomBytes(100'000, 2)}));
  PushOptions elsewhere = To("a");
  elsewhere.run.project = "other";
  ASSERT_OK(PushContents(elsewhere, {RandomBytes(100'000, 3)}));
  EXPECT_EQ(Verify({"default", "a", "2"}).last.chunks, 1);
  EXPECT_EQ(Verify({"default", "a", "latest"}).last.chunks, 1);
  EXPECT_EQ(Verify({"default", "a", ""}).last.chunks, 4);
  EXPECT_EQ(Verify({"other", "", ""}).last.chunks, 1);
  EXPECT_EQ(Verify({"default", "", ""}).last.chunks, 4);
  EXPECT_EQ(Verify({"nobody", "", ""}).last.chunks, 0);
  EXPECT_EQ(Verify().last.chunks, 5);
  CorruptChunk("a", "1", 0, 0);
  EXPECT_THAT(Verify({"default", "a", "2"}).damaged, IsEmpty());
  EXPECT_THAT(Verify({"other", "", ""}).damaged, IsEmpty());
  EXPECT_THAT(Verify({"default", "a", "1"}).damaged, ElementsAre("a@1"));
  EXPECT_THAT(repository_->BeginVerify({"default", "nobody", ""}), FailsWith(Reason::RUN_NOT_FOUND));
  EXPECT_THAT(repository_->BeginVerify({"default", "a", "7"}), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
}

TEST_P(VerifierTest, BytesThatAreRightAgainHeal) {
  ASSERT_OK(PushContents(To("a", {{"loss", 1}}), {large_}));
  ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "a"}, "1"}));
  Corrupt(*open, 0, 1);
  EXPECT_THAT(open->ReadChunk(0, 1), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Read("a", "1"), FailsWith(Reason::CHECKPOINT_QUARANTINED));
  Corrupt(*open, 0, 1);  // the same bit: as if the file came back from a backup
  EXPECT_THAT(Verify().damaged, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("a", "best"));
  EXPECT_TRUE(read == large_);
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 0);
}

TEST_P(VerifierTest, ALostBlobTakesWhateverStandsInIt) {
  if (GetParam() == Backend::kMemory) GTEST_SKIP() << "a blob in memory is readable whatever its trailer says";
  ASSERT_OK(PushContents(To("a"), {large_}));
  ASSERT_OK(PushContents(To("b"), {large_}));
  ASSERT_OK(PushContents(To("b"), {RandomBytes(100'000, 2)}));
  FlipFromEnd(20, 8 << 20);  // in its trailer
  Reopen();
  EXPECT_THAT(Verify().damaged, UnorderedElementsAre("a@1", "b@1"));
  ASSERT_OK(Read("b", "2"));
  ASSERT_OK(PushContents(To("c"), {large_}));
  EXPECT_THAT(Verify().damaged, IsEmpty()) << "the push brought chunks and manifests";
}

TEST_P(VerifierTest, ADamagedFooterIsReportedButServes) {
  ASSERT_OK(PushContents(To("a"), {large_}));
  FlipFromEnd(4096 - 70, 8 << 20);  // the footer begins the last page: this is in its chunk table
  const Result before = Verify();
  EXPECT_EQ(before.last.damaged_footers, 1);
  EXPECT_THAT(before.damaged, IsEmpty());
  EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 1);
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("a", "1"));
  EXPECT_TRUE(read == large_);
}

TEST_P(VerifierTest, ADeletedVersionIsNoDamage) {
  ASSERT_OK(PushContents(To("a"), {large_}));
  ASSERT_OK(PushContents(To("a"), {RandomBytes(5 << 20, 2)}));
  ASSERT_OK_AND_ASSIGN(const auto verification, repository_->BeginVerify({}));
  bool deleted = false;
  VerifyProgress progress;
  while (!progress.done) {
    ASSERT_OK_AND_ASSIGN(progress, verification->Step());
    EXPECT_THAT(progress.damaged, IsEmpty());
    if (!deleted && progress.blobs > 0) {
      for (const char* version : {"1", "2"}) {
        ASSERT_OK(repository_->DeleteCheckpoint({{"default", "a"}, version}, "", false, false));
      }
      ASSERT_OK(repository_->CollectGarbage());
      deleted = true;
    }
  }
  EXPECT_TRUE(deleted);
  EXPECT_EQ(repository_->GetIntegrity().failures, 0);
}

// With a catalog out of which records can be taken behind the repository's back.
class VerifierRecordsTest : public VerifierTest {};
INSTANTIATE_TEST_SUITE_P(Memory, VerifierRecordsTest, ::testing::Values(Backend::kMemory), BackendName);

TEST_P(VerifierRecordsTest, ALostRecordOfAChunkIsDamageThatAPushHeals) {
  ASSERT_OK(PushContents(To("a"), {RandomBytes(100'000, 1), RandomBytes(100'000, 2)}));
  catalog::ChangeSet change;
  ASSERT_OK_AND_ASSIGN(const auto project, memory_catalog_->Get(catalog::ProjectKey("default")));
  const uint64_t project_uid = ParseRecord<records::ProjectRecord>(*project)->uid();
  change.deletes.push_back(catalog::ChunkKey(project_uid, Sha256(AsBytes(RandomBytes(100'000, 1)))));
  ASSERT_OK(memory_catalog_->Apply(change));
  EXPECT_THAT(Verify().damaged, ElementsAre("a@1"));
  ASSERT_OK(PushContents(To("b"), {RandomBytes(100'000, 1)}));
  EXPECT_THAT(Verify().damaged, IsEmpty());
  ASSERT_OK(Read("a", "1"));
}

TEST_P(VerifierRecordsTest, ALostReferenceIsPutBack) {
  const std::string content = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("a"), {content}));
  ASSERT_OK(PushContents(To("b"), {content}));
  std::vector<std::string> references;
  ASSERT_OK(memory_catalog_->Scan("f", "g", false, [&](absl::string_view key, absl::string_view) {
    references.emplace_back(key);
    return true;
  }));
  ASSERT_EQ(references.size(), 2u);
  catalog::ChangeSet change;
  change.deletes = references;
  ASSERT_OK(memory_catalog_->Apply(change));
  EXPECT_THAT(Verify().damaged, IsEmpty());
  EXPECT_EQ(repository_->GetIntegrity().failures, 2);
  ASSERT_OK(repository_->DeleteRun({"default", "a"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("b", "1"));
  EXPECT_TRUE(read == content);
}

TEST_P(VerifierTest, DeletingWhatIsQuarantinedEndsTheAlarm) {
  ASSERT_OK(PushContents(To("a"), {large_}));
  ASSERT_OK(PushContents(To("b"), {large_}));
  CorruptChunk("a", "1", 0, 0);
  int64_t told = -1;
  repository_->SetIntegrityListener([&](const Integrity& state) { told = state.quarantined; });
  EXPECT_EQ(told, 0);
  Verify();
  EXPECT_EQ(told, 2);
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "a"}, "1"}, "", false, false));
  EXPECT_EQ(told, 1);
  ASSERT_OK(repository_->DeleteRun({"default", "b"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(told, 0);
  repository_->SetIntegrityListener([](const Integrity&) {});
}

}  // namespace
}  // namespace sconce::repository
