#include <atomic>

#include "base/digest.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/thread_pool.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce {
namespace {

TEST(StringsTest, HumanBytesKeepsOneDigit) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(HumanBytes(int64_t{3} << 40), "3.0 TiB");
}

TEST(StringsTest, HexRoundTripsAndRefusesOtherText) {
  std::string bytes;
  ASSERT_TRUE(FromHex("00ffA0", bytes));
  EXPECT_EQ(ToHex(AsBytes(bytes)), "00ffa0");
  EXPECT_FALSE(FromHex("0", bytes));
  EXPECT_FALSE(FromHex("0g", bytes));
}

TEST(DigestTest, MatchesPublishedValues) {
  EXPECT_EQ(Sha256(AsBytes("abc")).Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Xxh3(AsBytes("")).Hex(), "99aa06d3014798d86001c324468d497f");
}

TEST(DigestTest, PiecesGiveTheSameAsTheWhole) {
  Sha256Hasher sha;
  Xxh3Hasher xxh;
  for (const char* piece : {"a", "", "bc"}) {
    sha.Update(AsBytes(piece));
    xxh.Update(AsBytes(piece));
  }
  EXPECT_EQ(sha.Finish(), Sha256(AsBytes("abc")));
  EXPECT_EQ(xxh.Finish(), Xxh3(AsBytes("abc")));
}

TEST(PosixFileSystemTest, WrittenBytesAreReadAndMapped) {
  TempDir dir;
  FileSystem& fs = PosixFileSystem();
  ASSERT_OK(fs.CreateDirectories(dir / "a/b"));
  ASSERT_OK_AND_ASSIGN(auto file, fs.Create(dir / "a/b/f", {}));
  ASSERT_OK(file->WriteAt(3, AsBytes("def")));
  ASSERT_OK(file->WriteAt(0, AsBytes("abc")));
  ASSERT_OK(file->Sync());
  ASSERT_OK(fs.Rename(dir / "a/b/f", dir / "a/g"));
  ASSERT_OK(fs.SyncDirectory(dir / "a"));
  ASSERT_OK_AND_ASSIGN(auto reader, fs.OpenRead(dir / "a/g"));
  ASSERT_OK(fs.Remove(dir / "a/g"));
  ASSERT_OK(reader->Populate(1, 5));
  ASSERT_OK_AND_ASSIGN(const ByteSpan mapped, reader->Map());
  EXPECT_EQ(std::string(ToStd(AsText(mapped))), "abcdef");
  uint8_t past[2];
  EXPECT_THAT(reader->ReadAt(5, past), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(reader->Populate(5, 2), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(fs.OpenRead(dir / "a/g"), FailsWith(Reason::IO_ERROR));
  EXPECT_OK(fs.Remove(dir / "a/g"));
}

TEST(PosixFileSystemTest, CreateRefusesAnExistingFile) {
  TempDir dir;
  ASSERT_OK(PosixFileSystem().Create(dir / "f", {}));
  EXPECT_THAT(PosixFileSystem().Create(dir / "f", {}), FailsWith(Reason::IO_ERROR));
}

TEST(PosixFileSystemTest, LinksGoOnWritingAndRemovesTrees) {
  TempDir dir;
  FileSystem& fs = PosixFileSystem();
  ASSERT_OK(fs.CreateDirectories(dir / "a/b"));
  ASSERT_OK_AND_ASSIGN(auto file, fs.Create(dir / "a/b/f", {}));
  ASSERT_OK(file->WriteAt(0, AsBytes("abc")));
  ASSERT_OK_AND_ASSIGN(auto again, fs.OpenWrite(dir / "a/b/f"));
  ASSERT_OK(again->WriteAt(3, AsBytes("def")));
  ASSERT_OK(fs.Link(dir / "a/b/f", dir / "g"));
  EXPECT_THAT(fs.Link(dir / "a/b/f", dir / "g"), FailsWith(Reason::IO_ERROR));
  const absl::Status elsewhere = fs.Link(dir / "g", "/dev/shm/sconce-base-test");
  EXPECT_TRUE(IsOtherDevice(elsewhere)) << elsewhere;
  EXPECT_TRUE(IsAbsent(fs.OpenWrite(dir / "none").status()));
  EXPECT_THAT(fs.RemoveDirectory(dir / "a"), FailsWith(Reason::IO_ERROR));
  ASSERT_OK(RemoveTree(fs, dir / "a"));
  EXPECT_OK(RemoveTree(fs, dir / "a"));
  EXPECT_TRUE(IsAbsent(fs.List(dir / "a").status()));
  ASSERT_OK_AND_ASSIGN(auto reader, fs.OpenRead(dir / "g"));
  EXPECT_EQ(reader->size_bytes(), 6);
}

TEST(ThreadPoolTest, RunsEverythingQueuedBeforeItDies) {
  std::atomic<int> ran{0};
  {
    ThreadPool pool("test", 2, 4);
    for (int i = 0; i < 100; ++i) pool.Submit([&] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
}

TEST(ThreadPoolTest, RefusesWhenTheQueueIsFull) {
  ThreadPool pool("test", 1, 1);
  Mutex mu;
  mu.Lock();
  std::atomic<bool> started{false};
  pool.Submit([&] {
    started = true;
    MutexLock wait(&mu);
  });
  while (!started) std::this_thread::yield();
  EXPECT_TRUE(pool.TrySubmit([] {}));
  EXPECT_FALSE(pool.TrySubmit([] {}));
  mu.Unlock();
}

TEST(LogTest, JsonStringsAreAlwaysValid) {
  EXPECT_EQ(JsonString("a\"b\\\n\x01"), "\"a\\\"b\\\\\\n\\u0001\"");
  EXPECT_EQ(JsonString("\xff\xc3\xa9"), "\"\\ufffd\xc3\xa9\"");
}

}  // namespace
}  // namespace sconce
