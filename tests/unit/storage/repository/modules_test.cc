#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

class ModulesTest : public RepositoryTest {
 protected:
  absl::StatusOr<Module> Push(const std::string& name, const std::string& archive, bool create_run = true) {
    auto push = repository_->BeginModulePush({"default", "r"}, name, static_cast<int64_t>(archive.size()), {{"k", "v"}},
                                             create_run);
    if (!push.ok()) return push.status();
    for (size_t begin = 0; begin < archive.size(); begin += 100'000) {
      const absl::Status written = (*push)->Write(AsBytes(absl::string_view(archive).substr(begin, 100'000)));
      if (!written.ok()) return written;
    }
    return (*push)->Commit();
  }
};
SCONCE_BOTH_BACKENDS(ModulesTest);

TEST_P(ModulesTest, AnArchiveGoesInAndComesOut) {
  for (const size_t size : {size_t{1}, size_t{1024}, size_t{1025}, size_t{5 << 20}}) {
    const std::string archive = RandomBytes(size, size), name = absl::StrCat("m", size);
    ASSERT_OK_AND_ASSIGN(const Module made, Push(name, archive));
    EXPECT_EQ(made.size_bytes, static_cast<int64_t>(size));
    EXPECT_EQ(made.digest, Sha256(AsBytes(archive)));
    Reopen();
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenReadModule({"default", "r"}, name));
    EXPECT_EQ(open->info().digest, made.digest);
    EXPECT_EQ(open->info().labels, (Labels{{"k", "v"}}));
    ASSERT_OK_AND_ASSIGN(const std::string bulk, ReadBulk(*open));
    EXPECT_TRUE(open->manifest().storages[0].inline_bytes + bulk == archive);
  }
}

TEST_P(ModulesTest, AModuleIsWrittenOnce) {
  const std::string archive = RandomBytes(100'000, 1);
  ASSERT_OK_AND_ASSIGN(const Module first, Push("net", archive));
  clock_.Turn(absl::Seconds(5));
  ASSERT_OK_AND_ASSIGN(const Module again, Push("net", archive));
  EXPECT_EQ(again.create_time, first.create_time);
  EXPECT_THAT(Push("net", RandomBytes(100'000, 2)), FailsWith(Reason::MODULE_ALREADY_EXISTS));
  EXPECT_EQ(Stats().blobs, 1);
}

TEST_P(ModulesTest, BadPushesAreRefused) {
  EXPECT_THAT(Push("a/b", "x"), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(Push("net", ""), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(Push("net", "x", false), FailsWith(Reason::RUN_NOT_FOUND));
  ASSERT_OK_AND_ASSIGN(const auto push, repository_->BeginModulePush({"default", "r"}, "net", 10, {}, true));
  ASSERT_OK(push->Write(AsBytes("123")));
  EXPECT_THAT(push->Write(AsBytes("45678901")), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_THAT(push->Commit(), FailsWith(Reason::UPLOAD_INCOMPLETE));
  EXPECT_EQ(Stats().runs, 0);
}

TEST_P(ModulesTest, ModulesAreListedAndDeleted) {
  for (const char* name : {"b", "a", "c"}) ASSERT_OK(Push(name, RandomBytes(2000, 1)));
  const RunName run = {"default", "r"};
  ASSERT_OK_AND_ASSIGN(const auto page, repository_->ListModules(run, "", 2));
  ASSERT_EQ(page.items.size(), 2u);
  EXPECT_EQ(page.items[0].module, "a");
  ASSERT_OK_AND_ASSIGN(const auto rest, repository_->ListModules(run, page.next, 2));
  ASSERT_EQ(rest.items.size(), 1u);
  EXPECT_EQ(rest.items[0].module, "c");
  for (const char* name : {"b", "a", "c"}) {
    ASSERT_OK(repository_->DeleteModule(run, name));
    EXPECT_THAT(repository_->GetModule(run, name), FailsWith(Reason::MODULE_NOT_FOUND));
  }
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(ModulesTest, ADamagedModuleIsHealedByPushingItAgain) {
  const std::string archive = RandomBytes(5 << 20, 1);
  ASSERT_OK(Push("net", archive));
  ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenReadModule({"default", "r"}, "net"));
  Corrupt(*open, 0, 1);
  EXPECT_THAT(ReadBulk(*open), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(repository_->OpenReadModule({"default", "r"}, "net"), FailsWith(Reason::CHUNK_CORRUPT));
  ASSERT_OK(Push("net", archive));
  ASSERT_OK_AND_ASSIGN(const auto healed, repository_->OpenReadModule({"default", "r"}, "net"));
  ASSERT_OK_AND_ASSIGN(const std::string read, ReadBulk(*healed));
  EXPECT_TRUE(read == archive);
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_OK_AND_ASSIGN(const auto after, repository_->OpenReadModule({"default", "r"}, "net"));
  ASSERT_OK(ReadBulk(*after));
}

TEST_P(ModulesTest, DeploymentsAreKept) {
  ASSERT_OK(repository_->PutDeployment("m2", "two", true));
  ASSERT_OK(repository_->PutDeployment("m1", "one", true));
  EXPECT_THAT(repository_->PutDeployment("m1", "x", true), FailsWith(Reason::MODEL_ALREADY_EXISTS));
  ASSERT_OK(repository_->PutDeployment("m1", std::string("\0new", 4), false));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const auto deployments, repository_->ListDeployments());
  EXPECT_THAT(deployments, ElementsAre(Pair("m1", std::string("\0new", 4)), Pair("m2", "two")));
  ASSERT_OK(repository_->DeleteDeployment("m1"));
  EXPECT_THAT(repository_->DeleteDeployment("m1"), FailsWith(Reason::MODEL_NOT_FOUND));
  EXPECT_THAT(repository_->PutDeployment("a/b", "x", true), FailsWith(Reason::NAME_INVALID));
}

TEST_P(ModulesTest, ASpoolKeepsItsBytesAndLeavesNoFile) {
  const std::string uploads = dir_ / "data/uploads";
  const std::string bytes = RandomBytes(3 << 20, 1);
  for (const bool map : {true, false}) {
    ASSERT_OK_AND_ASSIGN(auto spool, repository_->NewSpool());
    ASSERT_OK(spool->Append(AsBytes(absl::string_view(bytes).substr(0, 1000))));
    ASSERT_OK(spool->Append(AsBytes(absl::string_view(bytes).substr(1000))));
    EXPECT_EQ(spool->size_bytes(), 3 << 20);
    if (map) {
      ASSERT_OK_AND_ASSIGN(const ByteSpan mapped, spool->Map());
      EXPECT_TRUE(std::filesystem::is_empty(uploads));
      EXPECT_TRUE(AsText(mapped) == bytes);
      ASSERT_OK(spool->Map());
    }
    spool.reset();
    EXPECT_TRUE(std::filesystem::is_empty(uploads));
  }
}

}  // namespace
}  // namespace sconce::repository
