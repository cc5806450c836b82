#include "storage/repository/deletion_log.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "storage/catalog/keys.h"
#include "tests/support/fault_file_system.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

Deletion Version(uint64_t run, uint64_t version, int64_t time_ns = 5) {
  return {Deletion::Kind::kVersion, 1, run, version, time_ns};
}
std::vector<Deletion> Versions(uint64_t first, uint64_t last) {
  std::vector<Deletion> versions;
  for (uint64_t i = first; i <= last; ++i) versions.push_back(Version(2, i));
  return versions;
}

class DeletionLogTest : public ::testing::Test {
 protected:
  std::unique_ptr<DeletionLog> Open() {
    auto log = DeletionLog::Open(PosixFileSystem(), dir_.path());
    EXPECT_OK(log);
    return *std::move(log);
  }
  DeletionLogContents Contents() {
    const auto contents = ReadDeletionLog(PosixFileSystem(), dir_.path());
    EXPECT_OK(contents);
    return contents.value_or(DeletionLogContents());
  }
  std::string Bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void SetBytes(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

  const TempDir dir_;
  const std::string path_ = dir_ / "deletions.log";
};

TEST_F(DeletionLogTest, WhatWasRecordedIsThereAfterEveryOpen) {
  EXPECT_THAT(Contents().deletions, IsEmpty());
  ASSERT_OK(Open()->Record(Versions(1, 3)));
  const Deletion run = DeletionOfRun(1, 9, 7);
  const Deletion module = DeletionOf(1, {catalog::Owner::Kind::kModule, 2, 11}, 8);
  ASSERT_OK(Open()->Record({run, module}));
  EXPECT_EQ(Open()->records(), 5);
  EXPECT_THAT(Contents().deletions, ElementsAre(Version(2, 1), Version(2, 2), Version(2, 3), run, module));
  EXPECT_FALSE(Contents().torn);
  EXPECT_EQ(Contents().damaged, 0);
}

TEST_F(DeletionLogTest, AnObjectIsWrittenOnceUntilItsTombstoneIsGone) {
  const auto log = Open();
  ASSERT_OK(log->Record(Versions(1, 3)));
  ASSERT_OK(log->Record(Versions(2, 4)));
  EXPECT_EQ(log->records(), 4);
  log->Forget(Version(2, 4));
  ASSERT_OK(log->Record(Versions(2, 4)));
  EXPECT_EQ(log->records(), 5);
}

TEST_F(DeletionLogTest, TheExampleOfTheDocumentationIsWhatIsWritten) {
  ASSERT_OK(Open()->Record({Version(2, 3)}));
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  std::ifstream page(absl::StrCat(source != nullptr ? source : ".", "/docs/formats/deletions.md"));
  std::string line, documented;
  while (std::getline(page, line)) {
    if (line.rfind("00", 0) != 0) continue;
    for (size_t i = 6; i < 6 + 16 * 3 && i + 1 < line.size(); i += 3) {
      documented += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    }
  }
  EXPECT_EQ(ToHex(AsBytes(Bytes())), ToHex(AsBytes(documented)));
}

TEST_F(DeletionLogTest, ATornTailIsIgnoredAndCutOff) {
  ASSERT_OK(Open()->Record(Versions(1, 3)));
  const std::string before = Bytes();
  ASSERT_OK(Open()->Record(Versions(4, 6)));
  const std::string after = Bytes();
  for (size_t size = before.size(); size < after.size(); size += 5) {
    for (const char rest : {'-', '\0', '\x5a'}) {  // cut off; or the size was durable and the bytes were not
      std::string torn = after.substr(0, size);
      if (rest != '-') torn.resize(after.size(), rest);
      SetBytes(torn);
      const DeletionLogContents contents = Contents();
      EXPECT_EQ(contents.damaged, 0) << size;
      EXPECT_EQ(contents.deletions.size(), size / 64 - 1) << size;
      ASSERT_OK(Open()->Record({Version(7, 7)}));
      EXPECT_THAT(Contents().deletions.back(), Version(7, 7));
      EXPECT_EQ(Contents().deletions.size(), size / 64) << size;
      EXPECT_FALSE(Contents().torn);
    }
  }
}

TEST_F(DeletionLogTest, AnyFlippedBitBeforeTheLastAppendIsFoundAndTheRestIsKept) {
  ASSERT_OK(Open()->Record(Versions(1, 3)));
  ASSERT_OK(Open()->Record(Versions(4, 4)));
  ASSERT_OK(Open()->Record(Versions(5, 5)));
  const std::string sound = Bytes();
  for (size_t at = 0; at < sound.size() - 64; at += 3) {
    std::string flipped = sound;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
    SetBytes(flipped);
    ASSERT_EQ(Contents().damaged, 1) << at;
    const auto log = Open();
    ASSERT_EQ(log->records(), at < 64 ? 5 : 4) << at;
    ASSERT_EQ(Contents().damaged, 0) << at;
    ASSERT_TRUE(std::filesystem::exists(path_ + ".damaged"));
  }
}

TEST_F(DeletionLogTest, AFlippedBitInARewrittenLogIsFoundEverywhere) {
  const auto log = Open();
  ASSERT_OK(log->Record(Versions(1, 6)));
  ASSERT_OK(log->Rewrite([](const Deletion& deletion) { return deletion.number % 2 == 0; }));
  EXPECT_THAT(Contents().deletions, ElementsAre(Version(2, 2), Version(2, 4), Version(2, 6)));
  const std::string sound = Bytes();
  for (size_t at = 0; at < sound.size(); ++at) {
    std::string flipped = sound;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x40);
    SetBytes(flipped);
    ASSERT_EQ(Contents().damaged, 1) << at;
  }
  SetBytes(sound.substr(0, sound.size() - 64));
  EXPECT_EQ(Contents().damaged, 1);
  SetBytes(sound);
  ASSERT_OK(log->Record({Version(3, 1)}));
  EXPECT_EQ(Open()->records(), 4);
}

TEST_F(DeletionLogTest, AnotherVersionIsRefused) {
  ASSERT_OK(Open()->Record(Versions(1, 3)));
  std::string bytes = Bytes();
  bytes[8] = 2;
  const Fingerprint xxh3 = Xxh3(AsBytes(bytes.substr(0, 48)));
  bytes.replace(48, 16, xxh3.AsKey().data(), 16);
  SetBytes(bytes);
  EXPECT_THAT(DeletionLog::Open(PosixFileSystem(), dir_.path()), FailsWith(Reason::DATA_DIR_INCOMPATIBLE));
}

TEST_F(DeletionLogTest, AfterAnyFailureItGoesOnWithWhatWasDurable) {
  for (int n = 1; n < 30; ++n) {
    const TempDir dir;
    FaultFileSystem fs(dir.path());
    ASSERT_OK_AND_ASSIGN(const auto log, DeletionLog::Open(fs, dir.path()));
    fs.FailAt(n, EIO);
    const bool first = log->Record(Versions(1, 3)).ok();
    const bool second = log->Record(Versions(4, 5)).ok();
    ASSERT_EQ(first && second, !fs.failed()) << n;
    if (!fs.failed()) return;
    ASSERT_OK(log->Record(Versions(1, 5)));
    fs.RestorePower(FaultFileSystem::Loss::kUnsynced);
    ASSERT_OK_AND_ASSIGN(const auto contents, ReadDeletionLog(fs, dir.path()));
    EXPECT_EQ(contents.damaged, 0) << n;
    std::vector<uint64_t> numbers;
    for (const Deletion& deletion : contents.deletions) numbers.push_back(deletion.number);
    std::sort(numbers.begin(), numbers.end());
    EXPECT_THAT(numbers, ElementsAre(1, 2, 3, 4, 5)) << n;
  }
  FAIL() << "there are more operations than were tried";
}

TEST_F(DeletionLogTest, PowerLossTakesNothingThatWasRecorded) {
  using Loss = FaultFileSystem::Loss;
  for (const Loss loss : {Loss::kUnsynced, Loss::kUnsyncedBytes, Loss::kTornBytes}) {
    bool cut = true;
    for (int n = 1; cut; ++n) {
      const TempDir dir;
      FaultFileSystem fs(dir.path());
      ASSERT_OK_AND_ASSIGN(auto log, DeletionLog::Open(fs, dir.path()));
      fs.CutPowerAt(n);
      size_t recorded = 0;
      if (log->Record(Versions(1, 100)).ok()) recorded = 100;
      if (recorded == 100 && log->Record(Versions(101, 103)).ok()) recorded = 103;
      log->Rewrite([](const Deletion&) { return true; }).IgnoreError();
      cut = fs.power_is_off();
      if (cut) fs.RestorePower(loss, static_cast<uint32_t>(n));
      fs.Disarm();
      ASSERT_OK_AND_ASSIGN(const auto contents, ReadDeletionLog(fs, dir.path()));
      EXPECT_EQ(contents.damaged, 0) << n;
      EXPECT_GE(contents.deletions.size(), recorded) << n;
      ASSERT_OK_AND_ASSIGN(log, DeletionLog::Open(fs, dir.path()));
      ASSERT_OK(log->Record({Version(9, 9)}));
    }
  }
}

// What the collector writes.
class DeletionRecorderTest : public RepositoryTest {
 protected:
  std::vector<std::string> Logged() {
    const auto contents = ReadDeletionLog(PosixFileSystem(), dir_ / "data");
    EXPECT_OK(contents);
    std::vector<std::string> logged;
    for (const Deletion& deletion : contents->deletions) {
      logged.push_back(absl::StrCat(std::string(1, static_cast<char>(deletion.kind)), deletion.number));
    }
    return logged;
  }
};
SCONCE_BOTH_BACKENDS(DeletionRecorderTest);

TEST_P(DeletionRecorderTest, EveryDeletedObjectIsInTheLogOnceItsReferencesAreGone) {
  for (int i = 0; i < 3; ++i) PushMetrics("r", {});
  PushMetrics("gone", {});
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "2"}, "", false, false));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Logged(), ElementsAre("c2"));
  ASSERT_OK(repository_->DeleteRun({"default", "gone"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Logged(), ElementsAre("c2", "r0", "c1"));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Logged().size(), 3u);
}

TEST_P(DeletionRecorderTest, RecordsOfObjectsWhoseFootersAreGoneAreTrimmed) {
  const std::string shared = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("r"), {shared}));
  ASSERT_OK(PushContents(To("r"), {shared}));
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, "", false, false));  // its blob stays
  for (int i = 0; i < 300; ++i) {
    const int64_t version = PushMetrics("r", {});
    ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, absl::StrCat(version)}, "", false, false));
  }
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Logged().size(), 301u);  // too young
  clock_.Turn(absl::Hours(73));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Logged(), ::testing::UnorderedElementsAre("c1", "c302"));  // the run's last one stays too
}

}  // namespace
}  // namespace sconce::repository
