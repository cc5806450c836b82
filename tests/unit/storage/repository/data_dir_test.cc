#include "storage/repository/data_dir.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::repository {
namespace {

using ::testing::HasSubstr;

absl::Status TryOpen(const std::string& path) {
  return DataDir::Open(path, PosixFileSystem()).status();
}

TEST(DataDirTest, AFreshOneSurvivesPowerLoss) {
  const TempDir dir;
  FaultFileSystem fs(dir.path());
  ASSERT_OK(DataDir::Open(dir / "deep/er/data", fs));
  fs.RestorePower(FaultFileSystem::Loss::kUnsynced);
  EXPECT_OK(fs.List(dir / "deep/er/data/blobs"));
  EXPECT_OK(DataDir::Open(dir / "deep/er/data", fs));
}

TEST(DataDirTest, AFreshOneGetsItsPartsAndOpensAgain) {
  const TempDir dir;
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK(TryOpen(dir / "deep/er/data"));
    for (const char* part : {"LOCK", "VERSION", "catalog", "blobs", "uploads", "orphans"}) {
      EXPECT_TRUE(std::filesystem::exists(dir / "deep/er/data/" + part)) << part;
    }
  }
}

TEST(DataDirTest, TheSecondProcessIsToldWhoHasIt) {
  const TempDir dir;
  const auto open = DataDir::Open(dir.path(), PosixFileSystem());
  ASSERT_OK(open);
  EXPECT_THAT(TryOpen(dir.path()), FailsWith(Reason::DATA_DIR_LOCKED, HasSubstr(absl::StrCat("process ", ::getpid()))));
}

TEST(DataDirTest, TheLockGoesWithTheObject) {
  const TempDir dir;
  { ASSERT_OK(DataDir::Open(dir.path(), PosixFileSystem())); }
  EXPECT_OK(TryOpen(dir.path()));
}

TEST(DataDirTest, AnotherVersionIsRefused) {
  const TempDir dir;
  std::ofstream(dir / "VERSION") << "2\n";
  EXPECT_THAT(TryOpen(dir.path()), FailsWith(Reason::DATA_DIR_INCOMPATIBLE, HasSubstr("\"2\"")));
}

TEST(DataDirTest, ADirectoryOfSomethingElseIsRefusedAndLeftAlone) {
  const TempDir dir;
  std::ofstream(dir / "thesis.tex") << "x";
  EXPECT_THAT(TryOpen(dir.path()), FailsWith(Reason::DATA_DIR_INCOMPATIBLE, HasSubstr("thesis.tex")));
  EXPECT_FALSE(std::filesystem::exists(dir / "catalog"));
}

TEST(DataDirTest, AnInterruptedFirstStartIsFinished) {
  const TempDir dir;
  std::ofstream(dir / "LOCK") << "1\n";
  std::ofstream(dir / "VERSION.new") << "";
  EXPECT_OK(TryOpen(dir.path()));
}

}  // namespace
}  // namespace sconce::repository
