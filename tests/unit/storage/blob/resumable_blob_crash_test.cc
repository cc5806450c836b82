// Cuts the power at every operation of a blob that is written, synced, resumed and sealed. What was synced is there
// when it is resumed, whatever else was being written; and once Seal said OK all of it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "storage/blob/footer.h"
#include "storage/blob/local_blob_store.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::blob {
namespace {

using Loss = FaultFileSystem::Loss;

struct Piece {
  int64_t offset;
  std::string bytes;
};

// What the catalog would know.
struct Journal {
  std::optional<BlobId> id;    // recorded after the first Sync
  std::vector<Piece> durable;  // recorded after a Sync
  int64_t end = 0;
  bool sealing = false;
  bool sealed = false;
};

std::string Bytes(size_t size, size_t seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(1 + (i * 31 + seed) % 255);
  return bytes;
}

absl::StatusOr<std::unique_ptr<LocalBlobStore>> OpenStore(FileSystem& fs, const std::string& data_dir) {
  LocalBlobStoreOptions options;
  options.data_dir = data_dir;
  options.file_system = &fs;
  return LocalBlobStore::Open(options);
}

// Brings the blob up to six batches of chunks, syncing and journalling each, then seals it.
absl::Status Work(FileSystem& fs, const std::string& data_dir, Journal& journal) {
  SCONCE_ASSIGN_OR_RETURN(const auto store, OpenStore(fs, data_dir));
  SCONCE_RETURN_IF_ERROR(store
                             ->Recover([&](const BlobId& id) { return journal.id == id; },
                                       [&](const BlobId& id) { return journal.id == id; })
                             .status());
  if (journal.id && store->Open(*journal.id).ok()) {
    journal.sealed = true;
    return absl::OkStatus();
  }
  std::unique_ptr<BlobWriter> writer;
  if (journal.id) {
    SCONCE_ASSIGN_OR_RETURN(writer, store->Resume(*journal.id, journal.end));
  } else {
    SCONCE_ASSIGN_OR_RETURN(writer, store->CreateResumable(1));
    SCONCE_RETURN_IF_ERROR(writer->Sync());
    journal.id = writer->id();
  }
  for (size_t batch = journal.durable.size() / 3; batch < 6; ++batch) {
    std::vector<Piece> pieces;
    const std::string large = Bytes(70'000, batch);
    AlignedBuffer buffer(int64_t{128} << 10);
    std::copy(large.begin(), large.end(), buffer.data());
    SCONCE_ASSIGN_OR_RETURN(const int64_t large_at, writer->Append(buffer, 70'000, true));
    pieces.push_back({large_at, large});
    for (size_t i = 1; i < 3; ++i) {
      const std::string small = Bytes(20'000, batch + 100 * i);
      SCONCE_ASSIGN_OR_RETURN(const int64_t small_at, writer->AppendPacked(AsBytes(small)));
      pieces.push_back({small_at, small});
    }
    SCONCE_RETURN_IF_ERROR(writer->Sync());
    for (Piece& piece : pieces) {
      journal.end = std::max(journal.end, piece.offset + static_cast<int64_t>(piece.bytes.size()));
      journal.durable.push_back(std::move(piece));
    }
  }
  journal.sealing = true;
  SCONCE_RETURN_IF_ERROR(writer->Seal(AsBytes(Bytes(500, 9))));
  journal.sealed = true;
  return absl::OkStatus();
}

TEST(ResumableBlobCrashTest, WhatWasSyncedSurvivesAnyPowerCut) {
  for (const Loss loss : {Loss::kUnsynced, Loss::kUnsyncedBytes, Loss::kTornBytes}) {
    std::set<size_t> resumed_with;
    bool cut = true;
    for (int n = 1; cut; ++n) {
      SCOPED_TRACE(testing::Message() << "power cut at operation " << n << ", loss " << static_cast<int>(loss));
      const TempDir directory;
      FaultFileSystem fs(directory.path());
      Journal journal;
      fs.CutPowerAt(n);
      const absl::Status first = Work(fs, directory.path(), journal);
      cut = fs.power_is_off();
      fs.Disarm();
      fs.RestorePower(loss, static_cast<uint32_t>(n));
      resumed_with.insert(journal.durable.size());
      if (journal.sealed) {
        EXPECT_OK(first);
      }
      // Once more in the middle of going on, then to the end.
      fs.CutPowerAt(7);
      Work(fs, directory.path(), journal).IgnoreError();
      fs.Disarm();
      fs.RestorePower(loss, static_cast<uint32_t>(n + 1));
      ASSERT_OK(Work(fs, directory.path(), journal));
      ASSERT_TRUE(journal.sealed);
      ASSERT_EQ(journal.durable.size(), 18u);
      ASSERT_OK_AND_ASSIGN(const auto store, OpenStore(fs, directory.path()));
      ASSERT_OK_AND_ASSIGN(const auto blob, store->Open(*journal.id));
      for (const Piece& piece : journal.durable) {
        ASSERT_OK_AND_ASSIGN(const ByteSpan read, blob->Read(piece.offset, static_cast<int64_t>(piece.bytes.size())));
        EXPECT_TRUE(AsText(read) == ToAbsl(piece.bytes)) << "at offset " << piece.offset;
      }
      ASSERT_OK_AND_ASSIGN(const ByteSpan footer, blob->Footer());
      EXPECT_EQ(AsText(footer), ToAbsl(Bytes(500, 9)));
    }
    EXPECT_GE(resumed_with.size(), 7u);  // the cuts fell between all batches
  }
}

// One operation of the seal fails: the blob is still there to be resumed where it was synced, and sealed then.
TEST(ResumableBlobCrashTest, AFailedSealCanBeRepeated) {
  bool failed = true;
  int n = 1;
  for (; failed; ++n) {
    SCOPED_TRACE(testing::Message() << "operation " << n << " of the seal fails");
    const TempDir dir;
    FaultFileSystem fs(dir.path());
    auto store = OpenStore(fs, dir / "data");
    ASSERT_OK(store);
    auto writer = (*store)->CreateResumable(1);
    ASSERT_OK(writer);
    const BlobId id = (*writer)->id();
    const std::string chunk = Bytes(5000, 3);
    ASSERT_OK_AND_ASSIGN(const int64_t offset, (*writer)->AppendPacked(AsBytes(chunk)));
    ASSERT_OK((*writer)->Sync());
    const auto seal = [&]() -> absl::Status {
      SCONCE_ASSIGN_OR_RETURN(const int64_t at, (*writer)->FooterOffset());
      return (*writer)->Seal(
          AsBytes(EncodeFooter({{Sha256(AsBytes(chunk)), Xxh3(AsBytes(chunk)), offset, 5000}}, {}, {}, at).bytes));
    };
    fs.FailAt(n, EIO);
    const absl::Status first = seal();
    failed = fs.failed();
    fs.Disarm();
    if (!first.ok()) {
      writer->reset();
      writer = (*store)->Resume(id, offset + 5000);
      ASSERT_OK(writer);
      ASSERT_OK(seal());
    }
    writer->reset();
    ASSERT_OK_AND_ASSIGN(const auto blob, (*store)->Open(id));
    ASSERT_OK_AND_ASSIGN(const ByteSpan bytes, blob->Read(offset, 5000));
    EXPECT_TRUE(AsText(bytes) == ToAbsl(chunk));
    EXPECT_OK(ReadFooter(*blob));
  }
  EXPECT_GT(n, 5) << "footer, bytes, directories, name";
}

}  // namespace
}  // namespace sconce::blob
