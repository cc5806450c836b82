#include <fstream>

#include "storage/blob/local_blob_store.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "tests/unit/storage/repository/repository_fixture.h"

// What a crash leaves, and what the next start makes of it.
namespace sconce::repository {
namespace {

using ::testing::HasSubstr;

// A catalog whose process "died" at the given Apply: that one and all later ones fail.
class DyingCatalog final : public catalog::Catalog {
 public:
  DyingCatalog(std::unique_ptr<catalog::Catalog> real, int lives) : real_(std::move(real)), lives_(lives) {}

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override { return real_->Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    return real_->MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return real_->Scan(begin, end, reverse, visit);
  }
  absl::StatusOr<int64_t> Apply(const catalog::ChangeSet& change) override {
    if (lives_ <= 0 || lives_-- == 0) {
      return catalog::Undecided(MakeError(Reason::IO_ERROR, "the process died"));
    }
    return real_->Apply(change);
  }
  absl::Status Verify() const override { return real_->Verify(); }
  std::unique_ptr<catalog::CatalogReader> Snapshot() const override { return real_->Snapshot(); }

 private:
  const std::unique_ptr<catalog::Catalog> real_;
  std::atomic<int> lives_;
};

class RecoveryTest : public RepositoryTest {
 protected:
  std::unique_ptr<Repository> OpenToDieAfter(int applies) {
    auto data_dir = DataDir::Open(dir_ / "data", PosixFileSystem());
    EXPECT_OK(data_dir);
    auto catalog = catalog::RocksDbCatalog::Open(data_dir->catalog_path());
    EXPECT_OK(catalog);
    blob::LocalBlobStoreOptions options;
    options.data_dir = dir_ / "data";
    auto blobs = blob::LocalBlobStore::Open(options);
    EXPECT_OK(blobs);
    auto repository =
        LocalRepository::Assemble(Options(), *std::move(data_dir),
                                  std::make_unique<DyingCatalog>(*std::move(catalog), applies), *std::move(blobs));
    EXPECT_OK(repository);
    return *std::move(repository);
  }

  size_t FilesIn(const std::string& part) {
    size_t files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "data/" + part)) {
      files += entry.is_regular_file();
    }
    return files;
  }
};
SCONCE_DISK_ONLY(RecoveryTest);

TEST_P(RecoveryTest, ASealedButUncommittedVersionIsMovedAwayAndItsNumberIsNotUsedAgain) {
  const std::string content = RandomBytes(100'000, 1);
  PushMetrics("r", {});
  repository_ = nullptr;
  repository_ = OpenToDieAfter(1);  // the reservation
  EXPECT_THAT(PushContents(To("r"), {content}), FailsWith(Reason::IO_ERROR));
  repository_ = nullptr;
  EXPECT_EQ(FilesIn("blobs"), 2u);
  Open();
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(FilesIn("blobs"), 1u);
  EXPECT_EQ(FilesIn("orphans"), 1u);
  EXPECT_EQ(Resolve("r", "latest"), 1);
  ASSERT_OK_AND_ASSIGN(const Checkpoint next, PushContents(To("r"), {content}));
  EXPECT_EQ(next.version, 3);
  EXPECT_EQ(next.deduplicated_bytes, 0);
}

TEST_P(RecoveryTest, ARunWhoseFirstPushDiedDoesNotExist) {
  repository_ = nullptr;
  repository_ = OpenToDieAfter(2);  // the project, the reservation
  EXPECT_THAT(PushContents(To("r"), {RandomBytes(100'000, 1)}), FailsWith(Reason::IO_ERROR));
  repository_ = nullptr;
  Open();
  EXPECT_THAT(repository_->GetRun({"default", "r"}), FailsWith(Reason::RUN_NOT_FOUND));
  ASSERT_OK_AND_ASSIGN(const auto page, repository_->ListRuns("", "", 10));
  EXPECT_TRUE(page.items.empty());
  PushOptions no_create = To("r");
  no_create.create_run = false;
  EXPECT_THAT(PushContents(no_create, {}), FailsWith(Reason::RUN_NOT_FOUND));
  ASSERT_OK(repository_->CreateRun({"default", "r"}, {{"a", "b"}}, {}, {}, {}));
  ASSERT_OK_AND_ASSIGN(const Checkpoint next, PushContents(To("r"), {}));
  EXPECT_EQ(next.version, 2);
}

TEST_P(RecoveryTest, AnInterruptedDeletionGoesOnAfterTheNextStart) {
  std::vector<std::string> contents;
  for (uint64_t i = 0; i < 2500; ++i) contents.push_back(RandomBytes(1100, i));
  for (int lives = 1; lives <= 6; ++lives) {
    ASSERT_OK(PushContents(To("r"), contents));
    ASSERT_OK(PushContents(To("keep"), {contents[3]}));
    repository_ = nullptr;
    repository_ = OpenToDieAfter(lives);
    ASSERT_OK(repository_->DeleteRun({"default", "r"}, "", true));
    repository_->CollectGarbage().IgnoreError();
    repository_ = nullptr;
    Open();
    ASSERT_OK(repository_->CollectGarbage());
    EXPECT_THAT(Read("r", "latest"), FailsWith(Reason::RUN_NOT_FOUND));
    ASSERT_OK_AND_ASSIGN(const std::string kept, Read("keep", "latest"));
    EXPECT_TRUE(kept == contents[3]);
    ASSERT_OK(repository_->DeleteRun({"default", "keep"}, "", true));
    ASSERT_OK(repository_->CollectGarbage());
    EXPECT_EQ(FilesIn("blobs"), 0u) << "died after " << lives;
  }
}

TEST_P(RecoveryTest, UnfinishedUploadsAndSpoolsGo) {
  std::ofstream(dir_ / "data/uploads/spool-left-by-a-crash") << "x";
  Reopen();
  EXPECT_EQ(FilesIn("uploads"), 0u);
}

TEST_P(RecoveryTest, TheDirectoryIsLocked) {
  EXPECT_THAT(Repository::Open(Options()), FailsWith(Reason::DATA_DIR_LOCKED, HasSubstr("process")));
}

TEST_P(RecoveryTest, AReaderThatOutlivesTheRepositoryKeepsTheLock) {
  ASSERT_OK(PushContents(To("r"), {}));
  ASSERT_OK_AND_ASSIGN(auto open, repository_->OpenRead({{"default", "r"}, "1"}));
  repository_ = nullptr;
  EXPECT_THAT(Repository::Open(Options()), FailsWith(Reason::DATA_DIR_LOCKED));
  open = nullptr;
  EXPECT_OK(Repository::Open(Options()));
}

}  // namespace
}  // namespace sconce::repository
