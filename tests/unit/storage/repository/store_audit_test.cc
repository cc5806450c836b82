#include "tests/support/store_audit.h"

#include "storage/catalog/keys.h"
#include "tests/unit/storage/repository/repository_fixture.h"

// The checker that other tests rely on must notice what it is there to notice.
namespace sconce::repository {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class StoreAuditTest : public RepositoryTest {
 protected:
  // Two runs that share chunks, two metrics, an alias, a module, a deletion whose space has come back.
  void Fill() {
    const std::string a = RandomBytes(5 << 20, 1), b = RandomBytes(80'000, 2), c = RandomBytes(3000, 3);
    ASSERT_OK(PushContents(To("r", {{"loss", 0.5}}), {a, b}));
    ASSERT_OK(PushContents(To("r", {{"loss", 0.25}, {"accuracy", 0.9}}), {a, c}));
    ASSERT_OK(PushContents(To("s"), {b, c, RandomBytes(70'000, 4)}));
    ASSERT_OK(PushContents(To("s"), {RandomBytes(90'000, 5)}));
    ASSERT_OK(repository_->SetAlias({"default", "r"}, "stable", "1", "", false));
    ASSERT_OK_AND_ASSIGN(auto module, repository_->BeginModulePush({"default", "r"}, "net", 70'000, {}, true));
    ASSERT_OK(module->Write(AsBytes(RandomBytes(70'000, 6))));
    ASSERT_OK(module->Commit());
    module.reset();
    ASSERT_OK(repository_->DeleteCheckpoint({{"default", "s"}, "2"}, "", false, false));
    ASSERT_OK(repository_->CollectGarbage());
  }

  std::vector<std::pair<std::string, std::string>> AllRecords() {
    std::vector<std::pair<std::string, std::string>> all;
    EXPECT_OK(memory_catalog_->Scan("", "", false, [&](absl::string_view key, absl::string_view value) {
      all.emplace_back(std::string(key), std::string(value));
      return true;
    }));
    return all;
  }
  void Put(const std::string& key, const std::string& value) {
    catalog::ChangeSet change;
    change.puts.emplace_back(key, value);
    ASSERT_OK(memory_catalog_->Apply(change));
  }
  void Erase(const std::string& key) {
    catalog::ChangeSet change;
    change.deletes.push_back(key);
    ASSERT_OK(memory_catalog_->Apply(change));
  }
};
INSTANTIATE_TEST_SUITE_P(Memory, StoreAuditTest, ::testing::Values(Backend::kMemory), BackendName);

using StoreAuditOfAnyTest = StoreAuditTest;
SCONCE_BOTH_BACKENDS(StoreAuditOfAnyTest);

TEST_P(StoreAuditOfAnyTest, AHealthyStoreIsCleanAndCounted) {
  Fill();
  const auto audit = Audit();
  ASSERT_THAT(audit, IsClean());
  EXPECT_EQ(audit->runs, 2);
  EXPECT_EQ(audit->versions, 3);
  EXPECT_EQ(audit->modules, 1);
  EXPECT_EQ(audit->blobs, 4);
  EXPECT_EQ(audit->chunks, 6);       // two of a, b, c, the third's own, the module's
  EXPECT_EQ(audit->references, 10);  // 3 + 3 + 3 + 1
}

TEST_P(StoreAuditTest, EveryRecordThatIsMissingIsNoticed) {
  Fill();
  ASSERT_THAT(Audit(), IsClean());
  for (const auto& [key, value] : AllRecords()) {
    const bool free = absl::string_view("vuqpale").find(key[0]) != absl::string_view::npos;  // nothing depends on it
    Erase(key);
    if (!free) {
      EXPECT_THAT(Audit(), Not(IsClean())) << Quoted(key);
    }
    Put(key, value);
  }
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(StoreAuditTest, EveryRecordTooManyIsNoticed) {
  Fill();
  // Each kind of record again, one number or byte further on.
  for (const auto& [key, value] : AllRecords()) {
    if (absl::string_view("vuqple").find(key[0]) != absl::string_view::npos) continue;
    std::string other = key;
    other[5] = static_cast<char>(other[5] + 1);
    if (key[0] == 'P') other[1] = static_cast<char>(other[1] + 1);
    if (key[0] == 'R') other[9] = static_cast<char>(other[9] + 1);
    Put(other, value);
    EXPECT_THAT(Audit(), Not(IsClean())) << Quoted(other);
    Erase(other);
  }
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(StoreAuditTest, WhatADeletionLeavesIsALeakAndNoContradiction) {
  Fill();
  memory_catalog_->FailApplyForTest(MakeError(Reason::IO_ERROR, "the collector is not to get through"), 1);
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "2"}, "", false, false));
  repository_->CollectGarbage().IgnoreError();
  const auto audit = Audit();
  EXPECT_THAT(audit, IsConsistent());
  EXPECT_THAT(audit->leaks, Contains(HasSubstr("still has references")));
  memory_catalog_->FailApplyForTest(absl::OkStatus());
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(StoreAuditTest, ABlobNobodyKnowsIsALeakAndAMissingOneAContradiction) {
  Fill();
  ASSERT_OK_AND_ASSIGN(const auto writer, memory_blobs_->Create(1));
  ASSERT_OK(writer->Seal(AsBytes("no footer")));
  auto audit = Audit();
  EXPECT_THAT(audit->contradictions, Contains(HasSubstr(writer->id().Hex())));
  ASSERT_OK(memory_blobs_->Remove(writer->id()));
  ASSERT_OK_AND_ASSIGN(const auto ids, memory_blobs_->List());
  ASSERT_OK(memory_blobs_->Remove(ids.front()));
  EXPECT_THAT(Audit(), Not(IsConsistent()));
}

TEST_P(StoreAuditTest, BytesThatChangedAreNoticed) {
  Fill();
  ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "r"}, "1"}));
  Corrupt(*open, 0, 1);
  auto audit = Audit();
  EXPECT_THAT(audit->contradictions, ElementsAre(HasSubstr("does not have its bytes")));
  EXPECT_THAT(open->ReadChunk(0, 1), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Audit(), IsClean());  // known to be bad: everything says so
}

}  // namespace
}  // namespace sconce::repository
