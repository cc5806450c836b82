#include "storage/catalog/rocksdb_catalog.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/watched_catalog.h"
#include "tests/contract/catalog_contract.h"
#include "tests/support/memory_catalog.h"
#include "tests/support/temp_dir.h"

namespace sconce::catalog {
namespace {

struct InMemory {
  static constexpr bool kDurable = false;
  std::unique_ptr<Catalog> Open() { return std::make_unique<MemoryCatalog>(); }
};

struct InRocksDb {
  static constexpr bool kDurable = true;
  std::unique_ptr<Catalog> Open() {
    auto opened = RocksDbCatalog::Open(dir / "catalog");
    EXPECT_OK(opened);
    return std::move(opened).value();
  }
  std::string NewPath() { return absl::StrCat(dir.path(), "/copy", copies++); }
  std::unique_ptr<CatalogReader> OpenCopy(const std::string& path) {
    auto opened = RocksDbCatalog::OpenReadOnly(path);
    EXPECT_OK(opened);
    return std::move(opened).value();
  }
  TempDir dir;
  int copies = 0;
};

// The one that the repository puts before it.
struct InWatchedRocksDb : InRocksDb {
  std::unique_ptr<Catalog> Open() {
    return Watch(
        InRocksDb::Open(), [](const absl::Status&) {}, [](const ChangeSet&) {});
  }
};

INSTANTIATE_TYPED_TEST_SUITE_P(Memory, CatalogContract, InMemory);
INSTANTIATE_TYPED_TEST_SUITE_P(RocksDb, CatalogContract, InRocksDb);
INSTANTIATE_TYPED_TEST_SUITE_P(Watched, CatalogContract, InWatchedRocksDb);

// The write-ahead log that holds what was applied since the catalog was opened.
std::filesystem::path NewestLog(const std::string& dir) {
  std::filesystem::path newest;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    if (entry.path().extension() == ".log" && entry.path() > newest) newest = entry.path();
  }
  return newest;
}

// Closing does not flush, so the ten records are in the log alone, as after a crash.
void WriteTenRecords(const std::string& dir) {
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir));
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK(catalog->Apply(Puts({{absl::StrCat("x", i), std::string(1000, static_cast<char>('a' + i))}})));
  }
}

TEST(RocksDbCatalogTest, AFlippedBitInTheLogIsReportedNotDropped) {
  const TempDir dir;
  WriteTenRecords(dir / "catalog");
  const std::filesystem::path log = NewestLog(dir / "catalog");
  std::fstream file(log, std::ios::in | std::ios::out | std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const size_t at = bytes.find(std::string(100, 'c'));
  ASSERT_NE(at, std::string::npos);
  file.clear();
  file.seekp(static_cast<std::streamoff>(at));
  file.put('C');
  file.close();
  EXPECT_THAT(RocksDbCatalog::Open(dir / "catalog"), FailsWith(Reason::CATALOG_CORRUPT));
}

TEST(RocksDbCatalogTest, ATornLastRecordIsDroppedAlone) {
  const TempDir dir;
  WriteTenRecords(dir / "catalog");
  const std::filesystem::path log = NewestLog(dir / "catalog");
  std::filesystem::resize_file(log, std::filesystem::file_size(log) - 500);
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
  EXPECT_EQ(ScanAll(*catalog, "x", "y").size(), 9u);
}

TEST(RocksDbCatalogTest, AnotherSchemaIsRefused) {
  const TempDir dir;
  {
    ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
    ASSERT_OK(catalog->Apply(Puts({{SchemaKey(), "99"}})));
  }
  EXPECT_THAT(RocksDbCatalog::Open(dir / "catalog"),
              FailsWith(Reason::DATA_DIR_INCOMPATIBLE, ::testing::HasSubstr("schema \"99\"")));
}

TEST(RocksDbCatalogTest, ADatabaseOfSomethingElseIsRefused) {
  const TempDir dir;
  {
    ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
    ChangeSet change = Puts({{"foreign", "1"}});
    change.deletes = {SchemaKey()};
    ASSERT_OK(catalog->Apply(change));
  }
  EXPECT_THAT(RocksDbCatalog::Open(dir / "catalog"), FailsWith(Reason::DATA_DIR_INCOMPATIBLE));
}

TEST(RocksDbCatalogTest, ASecondOpenIsRefused) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
  EXPECT_THAT(RocksDbCatalog::Open(dir / "catalog"), FailsWith(Reason::DATA_DIR_LOCKED));
}

TEST(RocksDbCatalogTest, AChangeThatTheDiskHasNoRoomForIsRefusedWhole) {
  const TempDir dir;
  RocksDbOptions options;
  options.min_free_bytes = INT64_MAX / 2;
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog", options));
  ChangeSet change = Puts({{"xa", "1"}});
  change.log = {"entry"};
  EXPECT_THAT(catalog->Apply(change), FailsWith(Reason::DISK_FULL));
  EXPECT_EQ(ScanAll(*catalog, "l", "y"), Pairs({{SchemaKey(), "3"}}));
}

TEST(RocksDbCatalogTest, APlaceThatCannotBeIsAnIoError) {
  const TempDir dir;
  std::ofstream(dir / "file") << "not a directory";
  EXPECT_THAT(RocksDbCatalog::Open(dir / "file/catalog"), FailsWith(Reason::IO_ERROR));
}

TEST(RocksDbCatalogTest, EveryConcurrentChangeGetsItsOwnRevision) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&catalog, t] {
      for (int i = 0; i < 20; ++i) {
        ChangeSet change = Puts({{absl::StrCat("x", t, "-", i), ""}});
        change.log = {absl::StrCat(t)};
        ASSERT_OK(catalog->Apply(change));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ScanAll(*catalog, "x", "y").size(), 160u);
  EXPECT_EQ(ScanAll(*catalog, "l", "m").back().first, LogKey(160));
}

}  // namespace
}  // namespace sconce::catalog
