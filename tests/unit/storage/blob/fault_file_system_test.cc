#include "tests/support/fault_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

// The crash tests are worth what this fake is worth, so what it promises is tested too.
namespace sconce {
namespace {

using Loss = FaultFileSystem::Loss;

class FaultFileSystemTest : public ::testing::Test {
 protected:
  std::unique_ptr<WritableFile> Create(const std::string& name) {
    absl::StatusOr<std::unique_ptr<WritableFile>> file = fs_.Create(directory_ / name, {});
    EXPECT_OK(file);
    return *std::move(file);
  }
  // The content, or "absent".
  std::string Content(const std::string& name) {
    absl::StatusOr<std::shared_ptr<const ReadableFile>> file = fs_.OpenRead(directory_ / name);
    if (!file.ok()) return IsAbsent(file.status()) ? "absent" : file.status().ToString();
    std::string bytes(static_cast<size_t>((*file)->size_bytes()), '\0');
    EXPECT_OK((*file)->ReadAt(0, absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size())));
    return bytes;
  }
  void LosePower(Loss loss, uint32_t seed = 1) {
    fs_.CutPowerAt(1);
    EXPECT_THAT(fs_.Remove(directory_ / "anything"), FailsWith(Reason::IO_ERROR));
    EXPECT_TRUE(fs_.power_is_off());
    fs_.RestorePower(loss, seed);
  }

  TempDir directory_;
  FaultFileSystem fs_{directory_.path()};
};

TEST_F(FaultFileSystemTest, WhatIsSyncedStays) {
  const std::unique_ptr<WritableFile> file = Create("f");
  ASSERT_OK(file->WriteAt(0, AsBytes("kept")));
  ASSERT_OK(file->Sync());
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  ASSERT_OK(file->WriteAt(0, AsBytes("lost, and longer")));
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("f"), "kept");
}

TEST_F(FaultFileSystemTest, ANameNotSyncedIsLostOrNotAsAsked) {
  const std::unique_ptr<WritableFile> file = Create("f");
  ASSERT_OK(file->WriteAt(0, AsBytes("bytes")));
  ASSERT_OK(file->Sync());
  LosePower(Loss::kUnsyncedBytes);
  EXPECT_EQ(Content("f"), "bytes");
  const std::unique_ptr<WritableFile> other = Create("g");
  ASSERT_OK(other->Sync());
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("g"), "absent");
  EXPECT_EQ(Content("f"), "bytes");  // survived the first cut, so it was on the disk
}

TEST_F(FaultFileSystemTest, ANameWithoutSyncedBytesIsAnEmptyFile) {
  const std::unique_ptr<WritableFile> file = Create("f");
  ASSERT_OK(file->WriteAt(0, AsBytes("bytes")));
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("f"), "");
}

TEST_F(FaultFileSystemTest, TornBytesAreAMixOfPages) {
  const std::unique_ptr<WritableFile> file = Create("f");
  const std::string bytes(64 * 4096, 'x');
  ASSERT_OK(file->WriteAt(0, AsBytes(bytes)));
  LosePower(Loss::kTornBytes);
  const std::string torn = Content("f");
  ASSERT_EQ(torn.size(), bytes.size());
  EXPECT_THAT(torn, ::testing::HasSubstr(std::string(4096, 'x')));
  EXPECT_THAT(torn, ::testing::HasSubstr(std::string(4096, '\0')));
}

TEST_F(FaultFileSystemTest, ARenameIsTwoNamesThatAreSyncedApart) {
  ASSERT_OK(fs_.CreateDirectories(directory_ / "a"));
  ASSERT_OK(fs_.CreateDirectories(directory_ / "b"));
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  ASSERT_OK(Create("a/f")->Sync());
  ASSERT_OK(fs_.SyncDirectory(directory_ / "a"));
  ASSERT_OK(fs_.Rename(directory_ / "a/f", directory_ / "b/f"));
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("a/f"), "");
  EXPECT_EQ(Content("b/f"), "absent");

  ASSERT_OK(fs_.Rename(directory_ / "a/f", directory_ / "b/f"));
  ASSERT_OK(fs_.SyncDirectory(directory_ / "b"));
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("a/f"), "");
  EXPECT_EQ(Content("b/f"), "");
}

TEST_F(FaultFileSystemTest, AnUnlinkNotSyncedComesBack) {
  ASSERT_OK(Create("f")->Sync());
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  ASSERT_OK(fs_.Remove(directory_ / "f"));
  EXPECT_EQ(Content("f"), "absent");
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("f"), "");
}

TEST_F(FaultFileSystemTest, ADirectoryNobodyNamesIsLostWithAllInIt) {
  ASSERT_OK(fs_.CreateDirectories(directory_ / "new/deep"));
  ASSERT_OK(Create("new/deep/f")->Sync());
  ASSERT_OK(fs_.SyncDirectory(directory_ / "new/deep"));
  ASSERT_OK(fs_.SyncDirectory(directory_ / "new"));
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("new/deep/f"), "absent");
}

TEST_F(FaultFileSystemTest, FilesOpenedBeforeTheCutStayDead) {
  const std::unique_ptr<WritableFile> file = Create("f");
  LosePower(Loss::kUnsyncedBytes);
  EXPECT_THAT(file->WriteAt(0, AsBytes("late")), FailsWith(Reason::IO_ERROR));
  EXPECT_EQ(Content("f"), "");
}

TEST_F(FaultFileSystemTest, ADirectWriteMustBeAligned) {
  CreateOptions options;
  options.direct = true;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<WritableFile> file, fs_.Create(directory_ / "f", options));
  alignas(4096) static uint8_t pages[2 * 4096] = {};
  EXPECT_OK(file->WriteAt(4096, ByteSpan(pages, 4096)));
  EXPECT_THAT(file->WriteAt(1, ByteSpan(pages, 4096)), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(file->WriteAt(0, ByteSpan(pages, 100)), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(file->WriteAt(0, ByteSpan(pages + 1, 4096)), FailsWith(Reason::IO_ERROR));
}

TEST_F(FaultFileSystemTest, TheChosenOperationFailsOnceWithTheChosenErrno) {
  const std::unique_ptr<WritableFile> file = Create("f");
  fs_.FailAt(2, ENOSPC);
  EXPECT_OK(file->WriteAt(0, AsBytes("a")));
  EXPECT_FALSE(fs_.failed());
  EXPECT_THAT(file->WriteAt(1, AsBytes("b")), FailsWith(Reason::DISK_FULL));
  EXPECT_TRUE(fs_.failed());
  EXPECT_OK(file->WriteAt(1, AsBytes("b")));
  EXPECT_EQ(fs_.operations(), 4);
}

TEST_F(FaultFileSystemTest, AfterAFailedSyncTheBytesAreLostThoughTheNextSyncIsOk) {
  const std::unique_ptr<WritableFile> file = Create("f");
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  ASSERT_OK(file->WriteAt(0, AsBytes("bytes")));
  fs_.FailAt(1, EIO);
  EXPECT_THAT(file->Sync(), FailsWith(Reason::IO_ERROR));
  EXPECT_OK(file->Sync());
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("f"), "");
}

TEST_F(FaultFileSystemTest, AFileOpenedAgainLosesWhatWasNotSyncedSince) {
  {
    const std::unique_ptr<WritableFile> file = Create("f");
    ASSERT_OK(file->WriteAt(0, AsBytes("kept")));
    ASSERT_OK(file->Sync());
    ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  }
  ASSERT_OK_AND_ASSIGN(const auto again, fs_.OpenWrite(directory_ / "f"));
  ASSERT_OK(again->WriteAt(4, AsBytes(" too")));
  ASSERT_OK(again->Sync());
  ASSERT_OK(again->WriteAt(8, AsBytes(", lost")));
  EXPECT_EQ(Content("f"), "kept too, lost");
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("f"), "kept too");
}

TEST_F(FaultFileSystemTest, ASecondNameIsDurableByItself) {
  const std::unique_ptr<WritableFile> file = Create("f");
  ASSERT_OK(file->WriteAt(0, AsBytes("bytes")));
  ASSERT_OK(file->Sync());
  ASSERT_OK(fs_.CreateDirectories(directory_ / "d"));
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  ASSERT_OK(fs_.Link(directory_ / "f", directory_ / "d/g"));
  ASSERT_OK(fs_.SyncDirectory(directory_ / "d"));
  ASSERT_OK(fs_.Link(directory_ / "f", directory_ / "d/h"));
  ASSERT_OK(fs_.Remove(directory_ / "f"));
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  EXPECT_EQ(Content("d/h"), "bytes");
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("f"), "absent");
  EXPECT_EQ(Content("d/g"), "bytes");
  EXPECT_EQ(Content("d/h"), "absent");
}

TEST_F(FaultFileSystemTest, ADirectoryMovesWhenItsParentIsSynced) {
  ASSERT_OK(fs_.CreateDirectories(directory_ / "old"));
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  const std::unique_ptr<WritableFile> file = Create("old/f");
  ASSERT_OK(file->WriteAt(0, AsBytes("bytes")));
  ASSERT_OK(file->Sync());
  ASSERT_OK(fs_.SyncDirectory(directory_ / "old"));
  ASSERT_OK(fs_.Rename(directory_ / "old", directory_ / "new"));
  EXPECT_EQ(Content("new/f"), "bytes");
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("old/f"), "bytes");
  EXPECT_EQ(Content("new/f"), "absent");
  ASSERT_OK(fs_.Rename(directory_ / "old", directory_ / "new"));
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("old/f"), "absent");
  EXPECT_EQ(Content("new/f"), "bytes");
  ASSERT_OK(RemoveTree(fs_, directory_ / "new"));
  ASSERT_OK(fs_.SyncDirectory(directory_.path()));
  LosePower(Loss::kUnsynced);
  EXPECT_EQ(Content("new/f"), "absent");
}

}  // namespace
}  // namespace sconce
