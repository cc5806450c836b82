// Flips bits in every file of a catalog, one at a time. Each must be harmless, every answer being what it was, or be
// found: by the open, by a read, never by a wrong or missing answer.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/log_check.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "tests/contract/catalog_contract.h"
#include "tests/support/temp_dir.h"

namespace sconce::catalog {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CatalogContract);  // of the helpers beside it alone is use made here

namespace {

namespace fs = std::filesystem;

std::string Slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

void Spill(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string Noise(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

class CatalogDamageTest : public ::testing::Test {
 protected:
  // A catalog with table files and, as after a crash, a write-ahead log.
  void SetUp() override {
    const auto catalog = RocksDbCatalog::Open(whole_, options_);
    ASSERT_OK(catalog);
    for (uint32_t i = 0; i < 60; ++i) {
      ChangeSet change = Puts({{absl::StrCat("x", i), Noise(900, i)}});
      change.log.push_back(absl::StrCat("entry ", i));
      ASSERT_OK((*catalog)->Apply(change));
    }
    expected_ = ScanAll(**catalog, "", "");
    // Closing would flush what is only in the log: a copy of now is what a crash would leave, if nothing was removed or
    // renamed in the background meanwhile; else once more.
    std::error_code failed;
    std::set<std::string> before;
    do {
      before = Names(whole_);
      fs::remove_all(crashed_);
      fs::copy(whole_, crashed_, failed);
    } while (failed || Names(whole_) != before || Names(crashed_) != before);
  }

  static std::set<std::string> Names(const fs::path& directory) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
    return names;
  }

  std::vector<fs::path> Files(const std::string& word) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(crashed_)) {
      if (entry.path().filename().string().find(word) != std::string::npos) found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  enum class Outcome { kHarmless, kFoundAtOpen, kFoundByRead, kSilent };

  // What somebody who opens the directory and reads everything gets.
  Outcome Judge(const std::string& directory) {
    auto opened = RocksDbCatalog::Open(directory, options_);
    if (!opened.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(opened.status()) || HasReason(opened.status(), Reason::IO_ERROR) ||
                  HasReason(opened.status(), Reason::DATA_DIR_INCOMPATIBLE))
          << opened.status();
      return Outcome::kFoundAtOpen;
    }
    bool found = false;
    Pairs scanned;
    const absl::Status scan = (*opened)->Scan("", "", false, [&](absl::string_view key, absl::string_view value) {
      scanned.emplace_back(std::string(key), std::string(value));
      return true;
    });
    if (scan.ok() && scanned != expected_) return Outcome::kSilent;
    found = !scan.ok();
    for (const auto& [key, value] : expected_) {
      const auto got = (*opened)->Get(key);
      if (got.ok() && *got != value) return Outcome::kSilent;
      found = found || !got.ok();
    }
    return found ? Outcome::kFoundByRead : Outcome::kHarmless;
  }

  // Flips a bit at each of the positions, in turn. Returns how often each outcome came; none may be silent.
  std::map<Outcome, int> FlipEach(const fs::path& file, const std::vector<size_t>& positions) {
    const std::string bytes = Slurp(file);
    std::map<Outcome, int> outcomes;
    for (const size_t position : positions) {
      const std::string tried = dir_ / "tried";
      fs::remove_all(tried);
      fs::copy(crashed_, tried);
      std::string flipped = bytes;
      flipped[position] = static_cast<char>(flipped[position] ^ 1 << position % 8);
      Spill(fs::path(tried) / file.filename(), flipped);
      const Outcome outcome = Judge(tried);
      ++outcomes[outcome];
      EXPECT_NE(outcome, Outcome::kSilent) << file.filename() << " byte " << position << " of " << bytes.size();
    }
    return outcomes;
  }

  static std::vector<size_t> Every(size_t begin, size_t end, size_t stride) {
    std::vector<size_t> positions;
    for (size_t at = begin; at < end; at += stride) positions.push_back(at);
    return positions;
  }

  TempDir dir_;
  const std::string whole_ = dir_ / "whole", crashed_ = dir_ / "crashed";
  const RocksDbOptions options_ = [] {
    RocksDbOptions options;
    options.write_buffer_bytes = 64 << 10;
    options.min_free_bytes = 0;
    return options;
  }();
  Pairs expected_;
};

TEST_F(CatalogDamageTest, WithoutDamageNothingIsFound) {
  EXPECT_FALSE(Files(".log").empty());
  EXPECT_EQ(Judge(crashed_), Outcome::kHarmless);
}

TEST_F(CatalogDamageTest, FlipsInTheWriteAheadLogAreFound) {
  for (const fs::path& log : Files(".log")) {
    const size_t size = fs::file_size(log);
    if (size == 0) continue;
    const size_t tail = size - std::min<size_t>(size, 1100);  // the last record with its header, byte by byte
    std::vector<size_t> positions = Every(tail, std::min(size, tail + 250), 1);
    for (const size_t at : Every(0, size, 997)) positions.push_back(at);
    // The headers of the last two records: where a larger length looks like a torn end.
    for (const size_t at : Every(size > 40 ? size - 40 : 0, size, 1)) positions.push_back(at);
    FlipEach(log, positions);
  }
}

TEST_F(CatalogDamageTest, EveryBitOfALengthInTheLogIsFound) {
  // Walks the headers, so that every length is tried with every bit.
  for (const fs::path& log : Files(".log")) {
    const std::string bytes = Slurp(log);
    size_t tried = 0;
    for (size_t at = 0; at + 7 <= bytes.size();) {
      const size_t in_block = 32768 - at % 32768;
      if (in_block < 7) {
        at += in_block;
        continue;
      }
      const size_t length = static_cast<uint8_t>(bytes[at + 4]) | static_cast<uint8_t>(bytes[at + 5]) << 8;
      const bool last = at + 7 + length >= bytes.size();
      for (int bit = 0; bit < 16 && (last || tried % 16 == 0); ++bit) {
        const std::string copy = dir_ / "tried";
        fs::remove_all(copy);
        fs::copy(crashed_, copy);
        std::string flipped = bytes;
        char& byte = flipped[at + 4 + static_cast<size_t>(bit / 8)];
        byte = static_cast<char>(byte ^ 1 << bit % 8);
        Spill(fs::path(copy) / log.filename(), flipped);
        EXPECT_EQ(Judge(copy), Outcome::kFoundAtOpen) << log.filename() << " record at " << at << " bit " << bit;
      }
      ++tried;
      at += 7 + length;
    }
  }
}

TEST_F(CatalogDamageTest, FlipsInTableFilesAreFound) {
  {  // opening and closing once more puts everything into tables
    ASSERT_OK(RocksDbCatalog::Open(crashed_, options_));
  }
  const std::vector<fs::path> tables = Files(".sst");
  ASSERT_FALSE(tables.empty());
  const fs::path table = tables.back();
  const size_t size = fs::file_size(table);
  std::vector<size_t> positions = Every(0, size, 1999);
  // Filter, properties, index and footer are at the end.
  for (const size_t at : Every(size - std::min<size_t>(size, 2500), size, 11)) positions.push_back(at);
  const auto outcomes = FlipEach(table, positions);
  EXPECT_GT(outcomes.count(Outcome::kFoundByRead) + outcomes.count(Outcome::kFoundAtOpen), 0u);
}

TEST_F(CatalogDamageTest, FlipsInTheManifestAreFound) {
  const std::vector<fs::path> manifests = Files("MANIFEST");
  ASSERT_EQ(manifests.size(), 1u);
  const size_t size = fs::file_size(manifests[0]);
  FlipEach(manifests[0], Every(0, size, std::max<size_t>(1, size / 150)));
}

TEST_F(CatalogDamageTest, FlipsInTheSmallFilesAreFoundOrHarmless) {
  for (const char* name : {"CURRENT", "IDENTITY", "OPTIONS-"}) {
    for (const fs::path& file : Files(name)) {
      const size_t size = fs::file_size(file);
      FlipEach(file, Every(0, size, std::max<size_t>(1, size / 20)));
    }
  }
}

TEST_F(CatalogDamageTest, ALostFileIsFound) {
  // Without what a compaction that was under way had written and nobody knew of yet.
  { ASSERT_OK(RocksDbCatalog::Open(crashed_, options_)); }
  std::vector<fs::path> files = Files(".sst");
  for (const char* name : {"CURRENT", "MANIFEST"}) {
    for (const fs::path& file : Files(name)) files.push_back(file);
  }
  for (const fs::path& file : files) {
    const std::string tried = dir_ / "tried";
    fs::remove_all(tried);
    fs::copy(crashed_, tried);
    fs::remove(fs::path(tried) / file.filename());
    EXPECT_EQ(Judge(tried), Outcome::kFoundAtOpen) << file.filename();
  }
}

TEST_F(CatalogDamageTest, VerifyReadsWhatNobodyAsksFor) {
  { ASSERT_OK(RocksDbCatalog::Open(crashed_, options_)); }
  const fs::path table = Files(".sst").back();
  const auto opened = RocksDbCatalog::Open(crashed_, options_);
  ASSERT_OK(opened);
  EXPECT_OK((*opened)->Verify());
  std::string bytes = Slurp(table);
  bytes[100] = static_cast<char>(bytes[100] ^ 4);
  Spill(table, bytes);
  EXPECT_THAT((*opened)->Verify(), FailsWith(Reason::CATALOG_CORRUPT));
}

// Behind the back of a catalog that goes on writing to it.
TEST_F(CatalogDamageTest, VerifyReadsTheLogThatIsBeingWritten) {
  const std::string path = dir_ / "live";
  auto opened = RocksDbCatalog::Open(path);
  ASSERT_OK(opened);
  for (uint32_t i = 0; i < 12; ++i) ASSERT_OK((*opened)->Apply(Puts({{absl::StrCat("x", i), Noise(60 + i * 9, i)}})));
  ASSERT_OK((*opened)->Apply(Puts({{"xlarge", Noise(40'000, 99)}})));  // over the end of a block
  fs::path log;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() == ".log" && fs::file_size(entry.path()) > 0) log = entry.path();
  }
  ASSERT_FALSE(log.empty());
  EXPECT_OK((*opened)->Verify());
  const std::string bytes = Slurp(log);
  ASSERT_GT(bytes.size(), 41'000u);
  std::vector<size_t> positions = Every(0, 2000, 1);
  for (const size_t at : Every(2000, bytes.size(), 199)) positions.push_back(at);
  for (const size_t at : Every(32'700, 32'800, 1)) positions.push_back(at);
  for (const size_t at : Every(bytes.size() - 50, bytes.size(), 1)) positions.push_back(at);
  const auto flip = [&](size_t at) {
    std::fstream file(log, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(bytes[at] ^ 1 << at % 8));
  };
  const auto restore = [&](size_t at) {
    std::fstream file(log, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(bytes[at]);
  };
  for (const size_t at : positions) {
    flip(at);
    EXPECT_THAT((*opened)->Verify(), FailsWith(Reason::CATALOG_CORRUPT)) << "byte " << at;
    restore(at);
  }
  EXPECT_OK((*opened)->Verify());
  // Nothing of it is lost: the next change puts all that was in the log into a table before.
  flip(100);
  EXPECT_THAT((*opened)->Verify(), FailsWith(Reason::CATALOG_CORRUPT));
  ASSERT_OK((*opened)->Apply(Puts({{"xnew", "1"}})));
  EXPECT_OK((*opened)->Verify());
  const Pairs before = ScanAll(**opened, "", "");
  opened->reset();
  opened = RocksDbCatalog::Open(path);
  ASSERT_OK(opened);
  EXPECT_EQ(ScanAll(**opened, "", ""), before);
}

TEST_F(CatalogDamageTest, VerifyGoesOnAmongChanges) {
  const auto opened = RocksDbCatalog::Open(dir_ / "live", options_);
  ASSERT_OK(opened);
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (uint32_t i = 0; i < 400; ++i) EXPECT_OK((*opened)->Apply(Puts({{absl::StrCat("x", i % 50), Noise(3000, i)}})));
    done = true;
  });
  while (!done) EXPECT_OK((*opened)->Verify());
  writer.join();
}

TEST(LogCheckTest, ATornRecordIsNoDamage) {
  const TempDir dir;
  fs::create_directories(dir / "c");
  Spill(dir / "c/CURRENT", "MANIFEST-000001\n");
  // A header that promises 1000 bytes, and fewer behind it.
  Spill(dir / "c/000001.log", std::string("\x12\x34\x56\x78\xe8\x03\x01", 7) + std::string(500, 'x'));
  EXPECT_OK(CheckLogs(PosixFileSystem(), dir / "c"));
  EXPECT_OK(CheckLogs(PosixFileSystem(), dir / "absent"));
}

}  // namespace
}  // namespace sconce::catalog
