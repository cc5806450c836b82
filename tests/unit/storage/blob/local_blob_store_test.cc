#include "storage/blob/local_blob_store.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "storage/blob/footer.h"
#include "tests/contract/blob_store_contract.h"
#include "tests/support/temp_dir.h"

namespace sconce::blob {
namespace {

class TurnableClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Advance(absl::Duration by) { now_ += by; }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
};

std::unique_ptr<LocalBlobStore> OpenStore(const std::string& data_dir, const Clock* clock = nullptr,
                                          int64_t min_free_bytes = 0) {
  LocalBlobStoreOptions options;
  options.data_dir = data_dir;
  options.clock = clock;
  options.min_free_bytes = min_free_bytes;
  absl::StatusOr<std::unique_ptr<LocalBlobStore>> store = LocalBlobStore::Open(options);
  EXPECT_OK(store);
  return *std::move(store);
}

void FlipBit(const std::string& path, int64_t offset) {
  std::filesystem::permissions(path, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const int byte = file.get();
  file.seekp(offset);
  file.put(static_cast<char>(byte ^ 1));
  ASSERT_TRUE(file.good());
}

class LocalHarness {
 public:
  LocalHarness() {
    Reopen();
    EXPECT_OK(store_->Recover([](const BlobId&) { return true; }));
  }
  BlobStore& store() { return *store_; }
  void Reopen() { store_ = OpenStore(directory_.path()); }
  void CorruptByte(const BlobId& id, int64_t offset) { FlipBit(BlobPaths(directory_.path()).SealedPath(id), offset); }

 private:
  TempDir directory_;
  std::unique_ptr<LocalBlobStore> store_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Local, BlobStoreContract, LocalHarness);

class LocalBlobStoreTest : public ::testing::Test {
 protected:
  void Reopen(int64_t min_free_bytes = 0) { store_ = OpenStore(directory_.path(), &clock_, min_free_bytes); }
  BlobId Sealed(const std::string& chunk = "chunk") {
    absl::StatusOr<std::unique_ptr<BlobWriter>> writer = store_->Create(5);
    EXPECT_OK(writer);
    EXPECT_OK((*writer)->AppendPacked(AsBytes(chunk)));
    EXPECT_OK((*writer)->Seal(AsBytes("footer")));
    return (*writer)->id();
  }
  int64_t FilesIn(const std::string& folder) {
    int64_t files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / folder)) {
      files += entry.is_regular_file() ? 1 : 0;
    }
    return files;
  }
  static bool Known(const BlobId&) { return true; }
  static bool Unknown(const BlobId&) { return false; }

  TempDir directory_;
  TurnableClock clock_;
  BlobPaths paths_{directory_.path()};
  std::unique_ptr<LocalBlobStore> store_ = OpenStore(directory_.path(), &clock_);
};

TEST_F(LocalBlobStoreTest, ASealedFileIsReadOnlyAndOfWholePages) {
  const BlobId id = Sealed();
  struct stat info;
  ASSERT_EQ(::stat(paths_.SealedPath(id).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0440u);
  EXPECT_EQ(info.st_size % kDirectAlignment, 0);
  EXPECT_EQ(FilesIn("uploads"), 0);
}

TEST_F(LocalBlobStoreTest, ASmallBlobIsOnePage) {
  const BlobId id = Sealed("a few bytes");
  EXPECT_EQ(std::filesystem::file_size(paths_.SealedPath(id)), 4096u);
}

TEST_F(LocalBlobStoreTest, ADroppedWriterLeavesNoFile) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<BlobWriter> writer, store_->Create(5));
  EXPECT_EQ(FilesIn("uploads"), 1);
  writer.reset();
  EXPECT_EQ(FilesIn("uploads"), 0);
}

TEST_F(LocalBlobStoreTest, RecoverDropsWhatWasNeverSealed) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> crashed, store_->Create(5));
  ASSERT_OK(crashed->AppendPacked(AsBytes("lost")));
  EXPECT_EQ(FilesIn("uploads"), 1);
  ASSERT_OK(store_->Recover(Known));
  EXPECT_EQ(FilesIn("uploads"), 0);
}

TEST_F(LocalBlobStoreTest, RecoverKeepsUnknownBlobsInOrphansForADay) {
  const BlobId id = Sealed();
  Reopen();
  ASSERT_OK_AND_ASSIGN(const int64_t moved, store_->Recover(Unknown));
  EXPECT_EQ(moved, 1);
  EXPECT_TRUE(std::filesystem::exists(paths_.OrphanPath(id, clock_.Now())));
  EXPECT_EQ(FilesIn("blobs"), 0);

  clock_.Advance(absl::Hours(24));
  Reopen();
  ASSERT_OK(store_->Recover(Unknown));
  EXPECT_EQ(FilesIn("orphans"), 1);

  clock_.Advance(absl::Seconds(1));
  Reopen();
  ASSERT_OK(store_->Recover(Unknown));
  EXPECT_EQ(FilesIn("orphans"), 0);
}

TEST_F(LocalBlobStoreTest, RecoverLeavesFilesThatAreNotOursAlone) {
  std::filesystem::create_directories(directory_ / "blobs/lost+found");
  std::filesystem::create_directories(directory_ / "blobs/0000000000000005/zz");
  for (const char* name : {"blobs/note.txt", "blobs/0000000000000005/zz/x.blob", "orphans/readme"}) {
    std::ofstream(directory_ / name) << "mine";
  }
  clock_.Advance(absl::Hours(100));
  ASSERT_OK_AND_ASSIGN(const int64_t moved, store_->Recover(Unknown));
  EXPECT_EQ(moved, 0);
  EXPECT_EQ(FilesIn("blobs"), 2);
  EXPECT_EQ(FilesIn("orphans"), 1);
}

TEST_F(LocalBlobStoreTest, RecoverCountsTheBlobsOfBefore) {
  Sealed();
  Sealed(Pattern(60'000, 1));
  const BlobStats before = store_->GetStats();
  Reopen();
  ASSERT_OK(store_->Recover(Known));
  EXPECT_EQ(store_->GetStats().blobs, before.blobs);
  EXPECT_EQ(store_->GetStats().physical_bytes, before.physical_bytes);
}

TEST_F(LocalBlobStoreTest, ABlobThatIsGoneOrCutOrSwappedIsDataLoss) {
  const BlobId cut = Sealed(), swapped = Sealed(), other = Sealed(), flipped = Sealed();
  std::filesystem::resize_file(paths_.SealedPath(cut), 4000);
  EXPECT_THAT(store_->Open(cut), FailsWith(Reason::CHUNK_CORRUPT));
  std::filesystem::resize_file(paths_.SealedPath(cut), 0);
  EXPECT_THAT(store_->Open(cut), FailsWith(Reason::CHUNK_CORRUPT));

  std::filesystem::create_directories(paths_.ShardDir(swapped));
  std::filesystem::rename(paths_.SealedPath(other), paths_.SealedPath(swapped));
  EXPECT_THAT(store_->Open(swapped), FailsWith(Reason::CHUNK_CORRUPT, ::testing::HasSubstr(other.Hex())));
  EXPECT_THAT(store_->Open(other), FailsWith(Reason::CHUNK_CORRUPT, ::testing::HasSubstr("missing")));

  FlipBit(paths_.SealedPath(flipped), 4096 - kTrailerBytes + 40);
  EXPECT_THAT(store_->Open(flipped), FailsWith(Reason::CHUNK_CORRUPT, ::testing::HasSubstr(flipped.Hex())));
}

TEST_F(LocalBlobStoreTest, NotBeingAbleToOpenAFileIsNotDataLoss) {
  const BlobId id = Sealed();
  const std::string path = paths_.SealedPath(id);
  std::filesystem::remove(path);
  std::filesystem::create_symlink(path, path);  // ELOOP: the blob may well be there
  EXPECT_THAT(store_->Open(id), FailsWith(Reason::IO_ERROR));
}

TEST_F(LocalBlobStoreTest, TheReserveIsKeptFree) {
  ASSERT_OK_AND_ASSIGN(const int64_t free_bytes, PosixFileSystem().FreeBytes(directory_.path()));
  Reopen(free_bytes * 2);
  EXPECT_THAT(store_->Create(5), FailsWith(Reason::DISK_FULL, ::testing::HasSubstr("delete checkpoints")));
  // But for what gives back more than it takes.
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> writer, store_->CreateInReserve(5));
  EXPECT_OK(writer->AppendPacked(AsBytes("chunk")));
  EXPECT_OK(writer->Seal(AsBytes("footer")));
}

TEST_F(LocalBlobStoreTest, ABlobNobodyHoldsIsClosed) {
  const BlobId id = Sealed();
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<const Blob> blob, store_->Open(id));
  const std::string link = "/proc/self/fd/" + std::to_string(blob->fd());
  EXPECT_EQ(std::filesystem::read_symlink(link), std::filesystem::canonical(paths_.SealedPath(id)));
  blob.reset();
  std::error_code error;
  const std::filesystem::path after = std::filesystem::read_symlink(link, error);
  EXPECT_NE(after, std::filesystem::canonical(paths_.SealedPath(id)));
}

TEST_F(LocalBlobStoreTest, ABlobOutlivesTheStore) {
  const BlobId id = Sealed("chunk");
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, store_->Open(id));
  store_.reset();
  ASSERT_OK_AND_ASSIGN(const ByteSpan bytes, blob->Read(0, 5));
  EXPECT_EQ(Text(bytes), "chunk");
}

}  // namespace
}  // namespace sconce::blob
