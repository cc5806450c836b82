#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "storage/repository/rebuild.h"
#include "tests/compat/golden_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/store_audit.h"
#include "tests/support/store_dump.h"
#include "tests/support/temp_dir.h"

// Data directories as earlier releases left them, after a crash: every later one opens them and answers as they did.
namespace sconce::repository {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string TestData() {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  return absl::StrCat(source != nullptr ? source : ".", "/tests/data");
}

class GoldenDataDirTest : public ::testing::TestWithParam<const char*> {
 protected:
  GoldenDataDirTest() {
    std::filesystem::copy(absl::StrCat(TestData(), "/", GetParam()), path_, std::filesystem::copy_options::recursive);
    std::ifstream expected(path_ + "/expected.txt");
    expected_.assign(std::istreambuf_iterator<char>(expected), {});
    std::filesystem::remove(path_ + "/expected.txt");
  }

  const TempDir dir_;
  const std::string path_ = dir_ / "data";
  std::string expected_;
};

TEST_P(GoldenDataDirTest, OpensAndAnswersAsWritten) {
  ASSERT_THAT(expected_, HasSubstr("quarantined"));
  for (int start = 0; start < 2; ++start) {
    ASSERT_OK_AND_ASSIGN(const auto repository, Repository::Open(GoldenOptions(path_)));
    EXPECT_EQ(DumpStore(*repository), expected_) << "start " << start;
  }
}

TEST_P(GoldenDataDirTest, HasEveryIndexOfThisRelease) {
  {
    ASSERT_OK_AND_ASSIGN(const auto repository, Repository::Open(GoldenOptions(path_)));
    ASSERT_OK_AND_ASSIGN(const CheckpointQuery query,
                         ParseCheckpointQuery("epoch >= 2 AND -labels.reviewed:*", "metrics.loss"));
    ASSERT_OK_AND_ASSIGN(const auto page, repository->ListCheckpoints({"default", "resnet"}, query, "", 10));
    std::vector<int64_t> versions;
    for (const Checkpoint& checkpoint : page.items) versions.push_back(checkpoint.version);
    EXPECT_THAT(versions, ::testing::ElementsAre(6, 4, 3));
  }
  ASSERT_OK_AND_ASSIGN(const StoreAudit audit, AuditDataDir(path_));
  EXPECT_THAT(audit.contradictions, ::testing::IsEmpty());
}

TEST_P(GoldenDataDirTest, FinishesWhatTheCrashInterrupted) {
  ASSERT_OK_AND_ASSIGN(const auto repository, Repository::Open(GoldenOptions(path_)));
  ASSERT_OK(repository->CollectGarbage());
  EXPECT_EQ(DumpStore(*repository), expected_);
  EXPECT_TRUE(std::filesystem::is_empty(path_ + "/uploads"));
  ASSERT_OK_AND_ASSIGN(const RepositoryStats stats, repository->GetStats());
  EXPECT_EQ(stats.checkpoints, 8);
  EXPECT_EQ(stats.blobs, 11);  // of these, of the two modules, and of version 2, whose chunk version 3 shares
}

TEST_P(GoldenDataDirTest, TakesPushesThatShareHealAndRepeat) {
  ASSERT_OK_AND_ASSIGN(const auto repository, Repository::Open(GoldenOptions(path_)));
  ASSERT_OK_AND_ASSIGN(const Checkpoint repeated, PushGolden(*repository, GoldenRequest()));
  EXPECT_EQ(repeated.version, 1);
  PushOptions another = GoldenRequest();
  another.request = {};
  ASSERT_OK_AND_ASSIGN(const Checkpoint shared, PushGolden(*repository, another));
  EXPECT_EQ(shared.version, 8);
  EXPECT_EQ(shared.stored_bytes, 0);
  ASSERT_OK(repository->DeleteRun({"default", "resnet"}, "", true));
  ASSERT_OK(repository->DeleteRun({"vision", "bert-base"}, "", true));
  ASSERT_OK(repository->CollectGarbage());
  ASSERT_OK_AND_ASSIGN(const RepositoryStats stats, repository->GetStats());
  EXPECT_EQ(stats.blobs, 0);
}

TEST_P(GoldenDataDirTest, ItsCatalogCanBeRebuilt) {
  std::filesystem::remove_all(path_ + "/catalog");
  const bool had_log = std::filesystem::exists(path_ + "/deletions.log");
  ASSERT_OK_AND_ASSIGN(const RebuildReport report, RebuildCatalog(GoldenOptions(path_)));
  EXPECT_EQ(report.not_restored.count, 0) << Describe(report);
  // Without a deletion log (schema 1), the deleted ones whose footers are there still come back: 2 and 7 of resnet.
  EXPECT_EQ(report.versions, had_log ? 8 : 8 + 2);
  EXPECT_EQ(report.modules, 2);
  ASSERT_OK_AND_ASSIGN(const auto repository, Repository::Open(GoldenOptions(path_)));
  ASSERT_OK_AND_ASSIGN(const Checkpoint repeated, PushGolden(*repository, GoldenRequest()));
  EXPECT_EQ(repeated.version, 1);
  ASSERT_OK_AND_ASSIGN(const auto open, repository->OpenRead({{"default", "resnet"}, "6"}));
  EXPECT_OK(open->ReadChunk(0, 0));
}

TEST_P(GoldenDataDirTest, OfAFutureLayoutIsRefused) {
  std::ofstream(path_ + "/VERSION") << "99\n";
  EXPECT_THAT(
      Repository::Open(GoldenOptions(path_)),
      FailsWith(Reason::DATA_DIR_INCOMPATIBLE, AllOf(HasSubstr("version \"99\""), HasSubstr("start the release"))));
}

TEST_P(GoldenDataDirTest, OfAFutureSchemaIsRefused) {
  {
    ASSERT_OK_AND_ASSIGN(const auto catalog, catalog::RocksDbCatalog::Open(path_ + "/catalog"));
    catalog::ChangeSet change;
    change.puts.emplace_back(catalog::SchemaKey(), "99");
    ASSERT_OK(catalog->Apply(change));
  }
  EXPECT_THAT(
      Repository::Open(GoldenOptions(path_)),
      FailsWith(Reason::DATA_DIR_INCOMPATIBLE, AllOf(HasSubstr("schema \"99\""), HasSubstr("start the release"))));
}

INSTANTIATE_TEST_SUITE_P(All, GoldenDataDirTest, ::testing::Values("data_dir_1", "data_dir_2", "data_dir_3"),
                         [](const auto& given) { return std::string(given.param); });

}  // namespace
}  // namespace sconce::repository
