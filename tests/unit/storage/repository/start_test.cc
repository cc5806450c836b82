#include <filesystem>
#include <future>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/support/hooked_file_system.h"
#include "tests/unit/storage/repository/repository_fixture.h"

// What a start costs, and what it leaves to the background.
namespace sconce::repository {
namespace {

using Operation = HookedFileSystem::Operation;

class StartTest : public RepositoryTest {
 protected:
  // With `hook` under all files.
  void OpenHooked(const std::string& data_dir, HookedFileSystem::Hook hook) {
    repository_ = nullptr;
    files_ = std::make_unique<HookedFileSystem>(PosixFileSystem());
    files_->SetHook(std::move(hook));
    RepositoryOptions options = Options();
    options.data_dir = dir_ / data_dir;
    options.file_system = files_.get();
    auto opened = Repository::Open(options);
    ASSERT_OK(opened);
    repository_ = *std::move(opened);
  }
  void TearDown() override { repository_ = nullptr; }  // before the files it is on

  // How many files and directories the start of a new store with so many versions opens, in the thread that waits for
  // it.
  std::pair<int, int> CostOfStartWith(int versions) {
    const std::string data_dir = absl::StrCat("data-", versions);
    OpenHooked(data_dir, nullptr);
    for (int i = 0; i < versions; ++i) PushMetrics(absl::StrCat("r", i % 7), {{"loss", i}});
    const std::thread::id opener = std::this_thread::get_id();
    int opened = 0, listed = 0;
    bool starting = true;
    OpenHooked(data_dir, [&](Operation operation, const std::string&) {
      if (std::this_thread::get_id() != opener || !starting) return;
      opened += operation == Operation::kOpenRead ? 1 : 0;
      listed += operation == Operation::kList ? 1 : 0;
    });
    starting = false;
    EXPECT_OK(repository_->CollectGarbage());
    EXPECT_EQ(repository_->GetStats()->blobs, versions);
    repository_ = nullptr;  // before what the hook refers to
    return {opened, listed};
  }

  std::set<std::string> FilesIn(const std::string& part) {
    std::set<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "data/" + part)) {
      if (entry.is_regular_file()) files.insert(entry.path());
    }
    return files;
  }

  std::unique_ptr<HookedFileSystem> files_;
};
SCONCE_DISK_ONLY(StartTest);

TEST_P(StartTest, OpensAsManyFilesWithManyVersionsAsWithFew) {
  EXPECT_EQ(CostOfStartWith(100), CostOfStartWith(3));
}

// The sort begins when the push's blob has its final name and the catalog does not know it yet, and ends before it
// does.
TEST_P(StartTest, TheSortLeavesABlobAloneThatIsAboutToBeCommitted) {
  ASSERT_OK(PushContents(To("r"), {RandomBytes(100'000, 1)}));
  repository_ = nullptr;
  const std::string known = *FilesIn("blobs").begin();
  const std::string last = known.substr(known.size() - 6, 1);
  const std::string unknown = known.substr(0, known.size() - 6) + (last == "0" ? "1" : "0") + ".blob";
  std::filesystem::copy_file(known, unknown);

  const std::thread::id pusher = std::this_thread::get_id();
  std::promise<void> sealed;
  const std::shared_future<void> is_sealed = sealed.get_future().share();
  bool pushing = false, sorted = false;
  OpenHooked("data", [&](Operation operation, const std::string& path) {
    if (!absl::StrContains(path, "/blobs")) return;
    const bool by_pusher = std::this_thread::get_id() == pusher;
    if (operation == Operation::kList && !by_pusher) is_sealed.wait();  // the collector is about to sort
    const bool shard = path.size() > 3 && path[path.size() - 3] == '/';
    if (operation != Operation::kSyncDirectory || !shard || !by_pusher || !pushing || sorted) return;
    sorted = true;
    sealed.set_value();
    EXPECT_OK(repository_->CollectGarbage());  // until all is sorted
    EXPECT_FALSE(std::filesystem::exists(unknown));
  });
  pushing = true;
  const auto pushed = PushContents(To("r"), {RandomBytes(100'000, 2)});
  if (!sorted) sealed.set_value();
  ASSERT_OK(pushed);
  ASSERT_TRUE(sorted);
  EXPECT_EQ(FilesIn("orphans").size(), 1u);
  EXPECT_EQ(FilesIn("blobs").size(), 2u);
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "latest"));
  EXPECT_TRUE(read == RandomBytes(100'000, 2));
  ASSERT_OK_AND_ASSIGN(const RepositoryStats stats, repository_->GetStats());
  EXPECT_EQ(stats.blobs, 2);
  EXPECT_FALSE(stats.counting_blobs);
}

class TotalsTest : public RepositoryTest {};
SCONCE_DISK_ONLY(TotalsTest);

// Kept through every kind of change, they are what a new count finds.
TEST_P(TotalsTest, FollowEveryChange) {
  const auto expect = [&](int64_t projects, int64_t runs, int64_t checkpoints) {
    for (int count = 0; count < 2; ++count) {  // kept, then counted anew
      const RepositoryStats stats = Stats();
      EXPECT_EQ(stats.projects, projects);
      EXPECT_EQ(stats.runs, runs);
      EXPECT_EQ(stats.checkpoints, checkpoints);
      if (count == 0) Reopen();
    }
  };
  expect(0, 0, 0);
  for (int i = 0; i < 5; ++i) PushMetrics("r", {{"loss", i}});
  expect(1, 1, 5);
  ASSERT_OK(repository_->CreateRun({"other", "empty"}, {}, {}, {}, {}));
  PushMetrics("s", {});
  expect(2, 3, 6);
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "2"}, "", false, false));
  ASSERT_OK(repository_->SetAlias({"default", "r"}, "good", "3", "", false));
  expect(2, 3, 5);
  RunUpdate keep_two;
  keep_two.retention.emplace();
  keep_two.retention->keep_last = 1;
  ASSERT_OK(repository_->UpdateRun({"default", "r"}, keep_two));
  PushMetrics("r", {{"loss", 9}});  // deletes in the same batch: what is left is this, the best and the alias
  ASSERT_OK(repository_->CollectGarbage());
  expect(2, 3, 4);
  ASSERT_OK_AND_ASSIGN(auto unfinished, Send(To("hidden"), TensorManifest({}), ""));
  unfinished = nullptr;
  expect(2, 3, 4);
  ASSERT_OK(repository_->DeleteRun({"default", "r"}, "", true));
  expect(2, 2, 1);
  ASSERT_OK(repository_->CollectGarbage());
  expect(2, 2, 1);
}

}  // namespace
}  // namespace sconce::repository
