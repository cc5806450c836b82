#include "storage/catalog/torn_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::catalog {
namespace {

// Real logs of RocksDB, damaged.
class TornLogTest : public ::testing::Test {
 protected:
  // Two small changes, then one of `size` bytes that look random. The log is as after a crash.
  void Write(size_t size) {
    ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir_ / "catalog"));
    for (const char* key : {"x0", "x1"}) Put(*catalog, key, "small");
    before_ = Log().size();
    std::string value;
    while (value.size() < size) value += Sha256(AsBytes(value)).Hex();
    Put(*catalog, "x2", value);
  }
  static void Put(Catalog& catalog, const std::string& key, const std::string& value) {
    ChangeSet change;
    change.puts = {{key, value}};
    ASSERT_OK(catalog.Apply(change));
  }

  std::string LogPath() {
    std::string newest;
    for (const auto& entry : std::filesystem::directory_iterator(dir_ / "catalog")) {
      if (entry.path().extension() == ".log") newest = std::max(newest, entry.path().string());
    }
    return newest;
  }
  std::string Log() {
    std::ifstream file(LogPath(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  void SetLog(const std::string& bytes) { std::ofstream(LogPath(), std::ios::binary | std::ios::trunc) << bytes; }

  static std::string WithoutPage(std::string log, size_t page) {
    const size_t begin = page * 4096, size = std::min<size_t>(4096, log.size() - begin);
    return log.replace(begin, size, size, '\0');
  }
  static std::optional<int64_t> Find(const std::string& log) { return FindTornBatch(AsBytes(log)); }

  TempDir dir_;
  size_t before_ = 0;  // where the large change's batch begins
};

TEST_F(TornLogTest, AWholeLogIsLeftAlone) {
  Write(100'000);
  EXPECT_EQ(Find(Log()), std::nullopt);
  EXPECT_EQ(Find(""), std::nullopt);
}

TEST_F(TornLogTest, ABatchThatLacksAnyOfItsPagesIsFoundFromItsBeginning) {
  Write(100'000);
  const std::string log = Log();
  for (size_t page = 1; page * 4096 < log.size(); ++page) {
    EXPECT_EQ(Find(WithoutPage(log, page)), static_cast<int64_t>(before_)) << page;
  }
  std::string first = log;  // of the page that older batches share, only the new end is missing
  first.replace(before_, 4096 - before_, 4096 - before_, '\0');
  EXPECT_EQ(Find(first), static_cast<int64_t>(before_));
}

TEST_F(TornLogTest, AFlippedBitIsNotATear) {
  Write(100'000);
  for (const size_t at : {before_ + 2, before_ + 4, before_ + 6, before_ + 50, size_t{40'000}, Log().size() - 1}) {
    std::string log = Log();
    log[at] = static_cast<char>(log[at] ^ 0x10);
    EXPECT_EQ(Find(log), std::nullopt) << at;
  }
}

TEST_F(TornLogTest, ALostPageBehindWhichAnotherBatchBeginsIsNotATear) {
  Write(100'000);
  {
    ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir_ / "catalog"));
    Put(*catalog, "x3", std::string(70'000, 'y'));
    Put(*catalog, "x4", std::string(70'000, 'z'));
  }
  EXPECT_EQ(Find(WithoutPage(Log(), 2)), std::nullopt);
}

TEST_F(TornLogTest, TheCatalogOpensWithoutTheTornBatch) {
  Write(100'000);
  SetLog(WithoutPage(Log(), 3));
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir_ / "catalog"));
  ASSERT_OK_AND_ASSIGN(const auto small, catalog->Get("x1"));
  ASSERT_OK_AND_ASSIGN(const auto large, catalog->Get("x2"));
  EXPECT_EQ(small, "small");
  EXPECT_EQ(large, std::nullopt);
}

TEST_F(TornLogTest, AFlippedBitInTheLastBatchIsReported) {
  Write(100'000);
  std::string log = Log();
  log[50'000] = static_cast<char>(log[50'000] ^ 1);
  SetLog(log);
  EXPECT_THAT(RocksDbCatalog::Open(dir_ / "catalog"), FailsWith(Reason::CATALOG_CORRUPT));
}

}  // namespace
}  // namespace sconce::catalog
