#include "storage/repository/backup.h"

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "storage/repository/deletion_log.h"
#include "storage/repository/rebuild.h"
#include "storage/repository/removal_gate.h"
#include "tests/support/store_dump.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.push_back(entry.path().filename());
  return names;
}

class BackupTest : public RepositoryTest {
 protected:
  BackupTest() { OpenWith(dir_ / "backups"); }

  RepositoryOptions OptionsWith(const std::string& backup_dir) {
    RepositoryOptions options = Options();
    options.backup_dir = backup_dir;
    return options;
  }
  void OpenWith(const std::string& backup_dir) {
    std::filesystem::create_directories(backup_dir);
    repository_ = nullptr;
    auto opened = Repository::Open(OptionsWith(backup_dir));
    ASSERT_OK(opened);
    repository_ = *std::move(opened);
  }
  std::unique_ptr<Repository> OpenCopy(const std::string& path) {
    RepositoryOptions options = Options();
    options.data_dir = path;
    auto opened = Repository::Open(options);
    EXPECT_OK(opened);
    return *std::move(opened);
  }
  void Fill() {
    const std::string shared = RandomBytes(100'000, 1);
    for (uint64_t i = 0; i < 5; ++i) {
      ASSERT_OK(PushContents(To("r", {{"loss", 1.0 / static_cast<double>(i + 1)}}), {shared, RandomBytes(3000, i)}));
    }
    ASSERT_OK(repository_->SetAlias({"default", "r"}, "prod", "2", "", false));
    ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, "", false, false));
    ASSERT_OK(repository_->CollectGarbage());
  }
};
SCONCE_DISK_ONLY(BackupTest);

TEST_P(BackupTest, ACopyAnswersLikeTheOriginal) {
  Fill();
  const std::string before = DumpStore(*repository_);
  ASSERT_OK_AND_ASSIGN(const BackupReport report, repository_->Backup("monday"));
  EXPECT_EQ(report.directory, dir_ / "backups/monday");
  EXPECT_EQ(report.blobs, 5);  // the deleted version's holds what the others share
  EXPECT_GT(report.revision, 0);
  EXPECT_GT(report.linked_bytes, 100'000);
  EXPECT_EQ(report.copied_bytes + report.missing_blobs, 0);
  EXPECT_THAT(NamesIn(dir_ / "backups"), ElementsAre("monday"));
  EXPECT_THAT(AuditDataDir(report.directory), IsClean());
  EXPECT_EQ(DumpStore(*OpenCopy(report.directory)), before);
  EXPECT_EQ(DumpStore(*repository_), before);
}

TEST_P(BackupTest, NeitherHarmsTheOther) {
  Fill();
  const std::string before = DumpStore(*repository_);
  ASSERT_OK(repository_->Backup("a"));
  ASSERT_OK(repository_->Backup("b"));
  {
    const auto copy = OpenCopy(dir_ / "backups/a");
    ASSERT_OK(copy->DeleteRun({"default", "r"}, "", true));
    ASSERT_OK(copy->CollectGarbage());
    EXPECT_EQ(copy->GetStats()->blobs, 0);
  }
  EXPECT_EQ(DumpStore(*repository_), before);
  ASSERT_OK_AND_ASSIGN(const auto log, ReadDeletionLog(PosixFileSystem(), dir_ / "data"));
  EXPECT_EQ(log.deletions.size(), 1u);
  ASSERT_OK(repository_->DeleteRun({"default", "r"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(DumpStore(*OpenCopy(dir_ / "backups/b")), before);
}

TEST_P(BackupTest, ACopyCanBeRebuilt) {
  Fill();
  ASSERT_OK(repository_->Backup("copy"));
  std::filesystem::remove_all(dir_ / "backups/copy/catalog");
  RepositoryOptions options = Options();
  options.data_dir = dir_ / "backups/copy";
  ASSERT_OK_AND_ASSIGN(const RebuildReport report, RebuildCatalog(options));
  EXPECT_EQ(report.versions, 4);
  EXPECT_EQ(report.deletions_honoured, 1);
}

TEST_P(BackupTest, WhilePushesAndDeletionsGoOnEveryVersionOfTheCopyIsWhole) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      const std::string run = absl::StrCat("r", t);
      for (uint64_t i = 0; !stop; ++i) {
        const auto pushed = PushContents(To(run), {RandomBytes(70'000, i % 5), RandomBytes(2000, i)});
        EXPECT_OK(pushed);
        if (i >= 3) {
          EXPECT_OK(
              repository_->DeleteCheckpoint({{"default", run}, absl::StrCat(pushed->version - 3)}, "", true, false));
        }
        repository_->CollectGarbage().status().IgnoreError();
      }
    });
  }
  for (int i = 0; i < 6; ++i) {
    const auto report = repository_->Backup(absl::StrCat("copy", i));
    EXPECT_OK(report);
    if (!report.ok()) break;
    EXPECT_EQ(report->missing_blobs, 0);
    EXPECT_THAT(AuditDataDir(report->directory), IsConsistent());
    const std::string dump = DumpStore(*OpenCopy(report->directory));
    EXPECT_THAT(dump, ::testing::Not(HasSubstr("CORRUPT")));
    EXPECT_THAT(dump, ::testing::Not(HasSubstr("QUARANTINED")));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(DumpStore(*repository_), ::testing::Not(HasSubstr("CORRUPT")));
}

TEST_P(BackupTest, OnAnotherDiskTheBlobsAreCopied) {
  struct stat here, there;
  ASSERT_EQ(::stat(dir_.path().c_str(), &here), 0);
  if (::stat("/dev/shm", &there) != 0 || here.st_dev == there.st_dev) GTEST_SKIP() << "there is no other disk";
  const std::string elsewhere = absl::StrCat("/dev/shm/sconce-backup-test-", ::getpid());
  OpenWith(elsewhere);
  Fill();
  const std::string before = DumpStore(*repository_);
  const auto report = repository_->Backup("copy");
  EXPECT_OK(report);
  if (report.ok()) {
    EXPECT_GT(report->copied_bytes, 100'000);
    EXPECT_EQ(report->linked_bytes, 0);
    EXPECT_EQ(DumpStore(*OpenCopy(report->directory)), before);
  }
  std::filesystem::remove_all(elsewhere);
}

TEST_P(BackupTest, OnlyANewDirectoryBelowTheBackupDirectoryWillDo) {
  std::filesystem::create_directories(dir_ / "backups/there");
  std::filesystem::create_directories(dir_ / "elsewhere");
  std::filesystem::create_directory_symlink(dir_ / "elsewhere", dir_ / "backups/link");
  for (const std::string& bad :
       {std::string(""), std::string("."), std::string(".."), std::string("../elsewhere/x"), std::string("there"),
        std::string("there/../x"), std::string("none/x"), std::string("link"), std::string("link/x"),
        std::string("a//b"), dir_ / "elsewhere/x", dir_ / "backups", dir_ / "backups/../elsewhere/x",
        dir_ / "backupsx/y", std::string("x\0y", 3), std::string(".partial-1")}) {
    EXPECT_THAT(repository_->Backup(bad), FailsWith(Reason::BACKUP_PATH_INVALID)) << bad;
  }
  EXPECT_THAT(NamesIn(dir_ / "elsewhere"), IsEmpty());
  EXPECT_OK(repository_->Backup("there/monday"));
  EXPECT_OK(repository_->Backup(dir_ / "backups/tuesday"));
  EXPECT_THAT(repository_->Backup("tuesday"), FailsWith(Reason::BACKUP_PATH_INVALID, HasSubstr("it exists")));
  repository_ = nullptr;
  Open();
  EXPECT_THAT(repository_->Backup("x"), FailsWith(Reason::BACKUP_DISABLED));
}

TEST_P(BackupTest, AFailedOneLeavesNothingAndWhatACrashLeftIsRemoved) {
  Fill();
  // A blob whose place in the copy is taken cannot be linked: as good a failure as any.
  std::filesystem::create_directories(dir_ / "backups/.partial-dead/blobs");
  std::ofstream(dir_ / "backups/.partial-dead/VERSION") << "1\n";
  const std::string shard = dir_ / "data/blobs/0000000000000001";
  const std::string victim = std::filesystem::directory_iterator(shard)->path();
  std::filesystem::rename(victim, dir_ / "aside");
  std::ofstream(victim) << "not a directory";
  EXPECT_THAT(repository_->Backup("x"), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(NamesIn(dir_ / "backups"), IsEmpty());
  std::filesystem::remove(victim);
  std::filesystem::rename(dir_ / "aside", victim);
  EXPECT_OK(repository_->Backup("x"));
}

TEST_P(BackupTest, ABlobThatIsGoneIsCounted) {
  Fill();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "data/blobs")) {
    if (!entry.is_regular_file()) continue;
    std::filesystem::remove(entry.path());
    break;
  }
  ASSERT_OK_AND_ASSIGN(const BackupReport report, repository_->Backup("x"));
  EXPECT_EQ(report.missing_blobs, 1);
  EXPECT_EQ(report.blobs, 4);
}

TEST(RemovalGateTest, NoPassBeginsWhileItIsHeld) {
  RemovalGate gate;
  EXPECT_TRUE(gate.Enter());
  EXPECT_FALSE(gate.Wanted());
  std::thread holder([&] { gate.Hold(); });
  while (!gate.Wanted()) std::this_thread::yield();
  EXPECT_FALSE(gate.Enter());
  gate.Leave();
  holder.join();
  EXPECT_FALSE(gate.Enter());
  gate.Release();
  EXPECT_TRUE(gate.Enter());
  gate.Leave();
}

}  // namespace
}  // namespace sconce::repository
