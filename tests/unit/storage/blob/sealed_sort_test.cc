#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "storage/blob/local_blob_store.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/hooked_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

// What the files of a blob store see of the sort of what an earlier process left. The rest is in the contract suite.
namespace sconce::blob {
namespace {

using Operation = HookedFileSystem::Operation;

class SealedSortTest : public ::testing::Test {
 protected:
  void Open() {
    store_ = nullptr;
    LocalBlobStoreOptions options;
    options.data_dir = directory_.path();
    options.file_system = &files_;
    auto opened = LocalBlobStore::Open(options);
    ASSERT_OK(opened);
    store_ = *std::move(opened);
    ASSERT_OK(store_->DropUnsealed([](const BlobId&) { return false; }));
  }
  BlobId Sealed(uint64_t project = 5) {
    const auto writer = store_->Create(project);
    EXPECT_OK(writer);
    EXPECT_OK((*writer)->Seal(AsBytes("footer")));
    return (*writer)->id();
  }
  // Returns what was asked about.
  std::vector<BlobId> Sort(bool known) {
    std::vector<BlobId> asked;
    const KnownBlobs answer = [&](absl::Span<const BlobId> blobs) -> absl::StatusOr<std::vector<bool>> {
      asked.insert(asked.end(), blobs.begin(), blobs.end());
      return std::vector<bool>(blobs.size(), known);
    };
    for (SortStep step; !step.ended;) {
      const auto next = store_->SortSealed(answer, 10);
      EXPECT_OK(next);
      if (!next.ok()) break;
      step = *next;
    }
    return asked;
  }
  int64_t FilesIn(const std::string& folder) {
    int64_t files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / folder)) {
      files += entry.is_regular_file() ? 1 : 0;
    }
    return files;
  }

  TempDir directory_;
  FaultFileSystem disk_{directory_.path()};
  HookedFileSystem files_{disk_};
  BlobPaths paths_{directory_.path()};
  std::unique_ptr<LocalBlobStore> store_;
};

TEST_F(SealedSortTest, AStartNeitherReadsTheNamesOfSealedBlobsNorOpensThem) {
  Open();
  for (int i = 0; i < 20; ++i) Sealed();
  int opened = 0, listed = 0;
  files_.SetHook([&](Operation operation, const std::string& path) {
    if (!absl::StrContains(path, "/blobs")) return;
    opened += operation == Operation::kOpenRead ? 1 : 0;
    listed += operation == Operation::kList ? 1 : 0;
  });
  Open();
  EXPECT_EQ(opened, 0);
  EXPECT_EQ(listed, 0);
}

// Each new blob has its name before the directory it lies in is read, and the catalog knows none of them.
TEST_F(SealedSortTest, BlobsSealedJustBeforeTheirDirectoryIsReadAreLeftAlone) {
  Open();
  const BlobId old = Sealed();
  Open();
  std::vector<BlobId> made;
  files_.SetHook([&](Operation operation, const std::string& path) {
    if (operation != Operation::kList || path != paths_.ProjectDir(5) || !made.empty()) return;
    made.push_back(Sealed());
    for (int i = 0; i < 30; ++i) made.push_back(Sealed());
  });
  const std::vector<BlobId> asked = Sort(false);
  EXPECT_EQ(asked, std::vector<BlobId>{old});
  ASSERT_EQ(made.size(), 31u);
  for (const BlobId& id : made) EXPECT_OK(store_->Open(id));
  EXPECT_EQ(FilesIn("orphans"), 1);
  EXPECT_EQ(store_->GetStats().blobs, 31);
}

TEST_F(SealedSortTest, AStepThatFailsAmidMovingIsTakenAgain) {
  Open();
  for (int i = 0; i < 3; ++i) Sealed();
  const KnownBlobs none = [](absl::Span<const BlobId> blobs) -> absl::StatusOr<std::vector<bool>> {
    return std::vector<bool>(blobs.size(), false);
  };
  for (int n = 1; n <= 4; ++n) {
    Open();
    disk_.FailAt(n, EIO);
    int64_t steps = 0;
    for (SortStep step; !step.ended; ++steps) {
      const auto next = store_->SortSealed(none, 10);
      if (next.ok()) step = *next;
      ASSERT_LT(steps, 20);
    }
    disk_.Disarm();
    EXPECT_EQ(FilesIn("blobs"), 0);
    EXPECT_EQ(FilesIn("orphans"), 3 * n);
    for (int i = 0; i < 3; ++i) Sealed();
  }
}

TEST_F(SealedSortTest, EveryProjectIsSorted) {
  Open();
  for (const uint64_t project : {1, 2, 300}) {
    for (int i = 0; i < 3; ++i) Sealed(project);
  }
  std::filesystem::create_directories(paths_.ProjectDir(7));  // without a shard
  Open();
  EXPECT_EQ(Sort(true).size(), 9u);
  EXPECT_EQ(store_->GetStats().blobs, 9);
  EXPECT_TRUE(store_->GetStats().complete);
}

}  // namespace
}  // namespace sconce::blob
