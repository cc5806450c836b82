#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "storage/blob/local_blob_store.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

// Cuts the power, or fills the disk, at every single operation of making, sealing, recovering and removing blobs, and
// looks at what is there afterwards. DESIGN.md invariant 1: whole and there once Seal said OK; else whole or absent.
namespace sconce::blob {
namespace {

using Loss = FaultFileSystem::Loss;
constexpr Loss kLosses[] = {Loss::kUnsynced, Loss::kUnsyncedBytes, Loss::kTornBytes};

struct Piece {
  int64_t offset;
  std::string bytes;
};

// What the workload did, kept outside of the crash.
struct Journal {
  std::map<BlobId, std::vector<Piece>> written;  // every blob whose Seal was begun; the last piece is its footer
  std::set<BlobId> acknowledged;                 // Seal said OK
};

std::string Bytes(size_t size, int seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(1 + (i * 31 + static_cast<size_t>(seed)) % 255);
  return bytes;
}

absl::StatusOr<std::unique_ptr<LocalBlobStore>> OpenStore(FileSystem& fs, const std::string& data_dir) {
  LocalBlobStoreOptions options;
  options.data_dir = data_dir;
  options.file_system = &fs;
  return LocalBlobStore::Open(options);
}

// One blob with a mappable chunk, small ones that fill more than one pack region, and a footer behind them.
absl::Status WriteBlob(BlobStore& store, uint64_t project, int seed, Journal& journal) {
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer, store.Create(project));
  std::vector<Piece> pieces;
  const std::string big = Bytes(100'000, seed);
  AlignedBuffer buffer(int64_t{128} << 10);
  std::copy(big.begin(), big.end(), buffer.data());
  SCONCE_ASSIGN_OR_RETURN(const int64_t big_at, writer->Append(buffer, 100'000, true));
  pieces.push_back({big_at, big});
  for (int i = 0; i < 3; ++i) {
    const std::string small = Bytes(30'000, seed + i);
    SCONCE_ASSIGN_OR_RETURN(const int64_t small_at, writer->AppendPacked(AsBytes(small)));
    pieces.push_back({small_at, small});
  }
  SCONCE_ASSIGN_OR_RETURN(const int64_t footer_at, writer->FooterOffset());
  pieces.push_back({footer_at, Bytes(9'000, seed + 9)});
  journal.written[writer->id()] = pieces;
  SCONCE_RETURN_IF_ERROR(writer->Seal(AsBytes(pieces.back().bytes)));
  journal.acknowledged.insert(writer->id());
  return absl::OkStatus();
}

// A start, two projects, and a second blob in one of them.
absl::Status Work(FileSystem& fs, const std::string& data_dir, Journal& journal) {
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, data_dir));
  SCONCE_RETURN_IF_ERROR(store->Recover([](const BlobId&) { return true; }).status());
  SCONCE_RETURN_IF_ERROR(WriteBlob(*store, 1, 10, journal));
  SCONCE_RETURN_IF_ERROR(WriteBlob(*store, 2, 20, journal));
  return WriteBlob(*store, 1, 30, journal);
}

void ExpectWhole(BlobStore& store, const BlobId& id, const Journal& journal) {
  absl::StatusOr<std::shared_ptr<const Blob>> blob = store.Open(id);
  ASSERT_OK(blob);
  const auto written = journal.written.find(id);
  ASSERT_NE(written, journal.written.end());
  for (const Piece& piece : written->second) {
    absl::StatusOr<ByteSpan> read = (*blob)->Read(piece.offset, static_cast<int64_t>(piece.bytes.size()));
    ASSERT_OK(read);
    EXPECT_TRUE(AsText(*read) == ToAbsl(piece.bytes)) << "at offset " << piece.offset;
  }
  EXPECT_OK((*blob)->Footer());
}

void ExpectEmpty(FileSystem& fs, const std::string& directory) {
  absl::StatusOr<std::vector<std::string>> names = fs.List(directory);
  ASSERT_OK(names);
  EXPECT_THAT(*names, ::testing::IsEmpty());
}

// Whatever is named is whole, whatever was acknowledged is named, and Recover leaves just that.
void ExpectSound(FileSystem& fs, const std::string& data_dir, const Journal& journal) {
  absl::StatusOr<std::unique_ptr<LocalBlobStore>> store = OpenStore(fs, data_dir);
  ASSERT_OK(store);
  absl::StatusOr<std::vector<BlobId>> listed = (*store)->List();
  ASSERT_OK(listed);
  for (const BlobId& id : *listed) ExpectWhole(**store, id, journal);
  ASSERT_OK((*store)->Recover([&](const BlobId& id) { return journal.acknowledged.count(id) == 1; }));
  for (const BlobId& id : journal.acknowledged) ExpectWhole(**store, id, journal);
  EXPECT_EQ((*store)->GetStats().blobs, static_cast<int64_t>(journal.acknowledged.size()));
  ExpectEmpty(fs, data_dir + "/uploads");
}

TEST(LocalBlobStoreCrashTest, PowerLossAtEveryOperationLeavesEachBlobWholeOrAbsent) {
  for (const Loss loss : kLosses) {
    std::set<size_t> acknowledged;
    bool cut = true;
    for (int n = 1; cut; ++n) {
      SCOPED_TRACE(testing::Message() << "power cut at operation " << n << ", loss " << static_cast<int>(loss));
      const TempDir directory;
      FaultFileSystem fs(directory.path());
      Journal journal;
      fs.CutPowerAt(n);
      const absl::Status done = Work(fs, directory.path(), journal);
      cut = fs.power_is_off();
      fs.Disarm();
      if (!cut) {
        EXPECT_OK(done);
      }
      fs.RestorePower(loss, static_cast<uint32_t>(n));
      ExpectSound(fs, directory.path(), journal);
      acknowledged.insert(journal.acknowledged.size());
    }
    EXPECT_THAT(acknowledged, ::testing::ElementsAre(0, 1, 2, 3));  // the cuts fell into every stage
  }
}

TEST(LocalBlobStoreCrashTest, DirectoriesThatAreThereAreNotTakenAsDurable) {
  const TempDir directory;
  FaultFileSystem fs(directory.path());
  Journal journal;
  for (int shard = 0; shard < 256; ++shard) {  // made by a process that was killed before it synced them
    const auto byte = static_cast<uint8_t>(shard);
    const std::string name = ToHex(ByteSpan(&byte, 1));
    ASSERT_OK(fs.CreateDirectories(directory / "blobs/0000000000000001/" + name));
  }
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, directory.path()));
  ASSERT_OK(WriteBlob(*store, 1, 1, journal));
  fs.RestorePower(Loss::kUnsynced);
  ExpectSound(fs, directory.path(), journal);
}

TEST(LocalBlobStoreCrashTest, AFullDiskAtAnyOperationIsSaidAndLeavesNothing) {
  bool failed = true;
  for (int n = 1; failed; ++n) {
    SCOPED_TRACE(testing::Message() << "disk full at operation " << n);
    const TempDir directory;
    FaultFileSystem fs(directory.path());
    Journal journal;
    absl::Status done;
    {
      ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, directory.path()));
      fs.FailAt(n, ENOSPC);
      done = WriteBlob(*store, 1, n, journal);
      failed = fs.failed();
      fs.Disarm();
      EXPECT_EQ(store->GetStats().blobs, done.ok() ? 1 : 0);
    }
    if (failed) {
      EXPECT_THAT(done, FailsWith(Reason::DISK_FULL, ::testing::HasSubstr("free space")));
      ExpectEmpty(fs, directory / "uploads");  // even without a restart
    } else {
      EXPECT_OK(done);
    }
    ExpectSound(fs, directory.path(), journal);
  }
}

TEST(LocalBlobStoreCrashTest, ABadDiskAtAnyOperationIsSaidAndTheBlobIsNotThere) {
  for (const Loss loss : kLosses) {
    bool failed = true;
    for (int n = 1; failed; ++n) {
      SCOPED_TRACE(testing::Message() << "I/O error at operation " << n);
      const TempDir directory;
      FaultFileSystem fs(directory.path());
      Journal journal;
      {
        ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, directory.path()));
        fs.FailAt(n, EIO);
        const absl::Status done = WriteBlob(*store, 1, n, journal);
        failed = fs.failed();
        fs.Disarm();
        EXPECT_EQ(done.ok(), !failed);
        if (failed) {
          EXPECT_THAT(done, FailsWith(Reason::IO_ERROR));
        }
        ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> ids, store->List());
        EXPECT_EQ(ids.size(), done.ok() ? 1u : 0u);
        // The store goes on: the next blob is not harmed by the one that failed.
        EXPECT_OK(WriteBlob(*store, 1, n + 1, journal));
      }
      fs.RestorePower(loss);
      ExpectSound(fs, directory.path(), journal);
    }
  }
}

TEST(LocalBlobStoreCrashTest, AfterAFailureTheWriterGivesTheSameErrorAndNeverSeals) {
  const TempDir directory;
  FaultFileSystem fs(directory.path());
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, directory.path()));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> writer, store->Create(1));
  AlignedBuffer buffer(4096);
  fs.FailAt(1, ENOSPC);
  const absl::StatusOr<int64_t> first = writer->Append(buffer, 4096, true);
  EXPECT_THAT(first, FailsWith(Reason::DISK_FULL));
  EXPECT_EQ(writer->Append(buffer, 4096, true).status(), first.status());
  EXPECT_EQ(writer->AppendPacked(AsBytes("x")).status(), first.status());
  EXPECT_EQ(writer->FooterOffset().status(), first.status());
  EXPECT_EQ(writer->Seal(AsBytes("f")), first.status());
  ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> ids, store->List());
  EXPECT_THAT(ids, ::testing::IsEmpty());
}

TEST(LocalBlobStoreCrashTest, AFailedSyncIsNotTriedAgain) {
  const TempDir directory;
  FaultFileSystem fs(directory.path());
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, directory.path()));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> writer, store->Create(1));
  ASSERT_OK(writer->AppendPacked(AsBytes("x")));
  fs.FailAt(3, EIO);  // write, mode, sync
  EXPECT_THAT(writer->Seal(AsBytes("f")), FailsWith(Reason::IO_ERROR, ::testing::HasSubstr("sync")));
  EXPECT_THAT(writer->Seal(AsBytes("f")), FailsWith(Reason::IO_ERROR));
  ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> ids, store->List());
  EXPECT_THAT(ids, ::testing::IsEmpty());
}

TEST(LocalBlobStoreCrashTest, TheReserveStopsABlobThatIsBeingWritten) {
  const TempDir directory;
  FaultFileSystem fs(directory.path());
  LocalBlobStoreOptions options;
  options.data_dir = directory.path();
  options.file_system = &fs;
  options.min_free_bytes = 1'000'000;
  fs.SetFreeBytes(1'000'000 + 4096);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, LocalBlobStore::Open(options));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> writer, store->Create(1));
  AlignedBuffer buffer(8192);
  EXPECT_OK(writer->Append(buffer, 4096, true));
  EXPECT_THAT(writer->Append(buffer, 4097, true),
              FailsWith(Reason::DISK_FULL, ::testing::HasSubstr("kept in reserve")));
}

TEST(LocalBlobStoreCrashTest, PowerLossWhileOrphansAreMovedLosesNone) {
  for (const Loss loss : kLosses) {
    bool cut = true;
    for (int n = 1; cut; ++n) {
      SCOPED_TRACE(n);
      const TempDir directory;
      FaultFileSystem fs(directory.path());
      Journal journal;
      ASSERT_OK(Work(fs, directory.path(), journal));
      fs.CutPowerAt(n);
      {
        absl::StatusOr<std::unique_ptr<LocalBlobStore>> store = OpenStore(fs, directory.path());
        if (store.ok()) (*store)->Recover([](const BlobId&) { return false; }).IgnoreError();
      }
      cut = fs.power_is_off();
      fs.Disarm();
      fs.RestorePower(loss);

      std::set<BlobId> found;
      ASSERT_OK_AND_ASSIGN(const std::vector<std::string> orphans, fs.List(directory / "orphans"));
      for (const std::string& name : orphans) {
        const std::optional<Orphan> orphan = ParseOrphanName(name);
        ASSERT_TRUE(orphan.has_value());
        found.insert(orphan->id);
        ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const ReadableFile> file,
                             fs.OpenRead(directory / "orphans/" + name));
        EXPECT_GT(file->size_bytes(), 0);
      }
      ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, directory.path()));
      ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> listed, store->List());
      for (const BlobId& id : listed) {
        ExpectWhole(*store, id, journal);
        found.insert(id);
      }
      EXPECT_EQ(found, journal.acknowledged);
    }
  }
}

TEST(LocalBlobStoreCrashTest, ARemovedBlobThatComesBackIsAnOrphan) {
  const TempDir directory;
  FaultFileSystem fs(directory.path());
  Journal journal;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, OpenStore(fs, directory.path()));
  ASSERT_OK(WriteBlob(*store, 1, 1, journal));
  const BlobId id = *journal.acknowledged.begin();
  ASSERT_OK(store->Remove(id));
  fs.RestorePower(Loss::kUnsynced);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> after, OpenStore(fs, directory.path()));
  ExpectWhole(*after, id, journal);
  ASSERT_OK_AND_ASSIGN(const int64_t moved, after->Recover([](const BlobId&) { return false; }));
  EXPECT_EQ(moved, 1);
  EXPECT_THAT(after->Open(id), FailsWith(Reason::CHUNK_CORRUPT));
}

}  // namespace
}  // namespace sconce::blob
