#include "storage/catalog/schema_migration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/records.pb.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "tests/support/memory_catalog.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::catalog {
namespace {

namespace records = ::sconce::storage::v1;

constexpr int kChunks = 2500;  // several batches

// The chunks of a store of schema 1, every tenth bad, and what the index should be.
ChangeSet Schema1(std::set<std::string>& index) {
  ChangeSet change;
  change.puts.emplace_back(SchemaKey(), "1");
  for (int i = 0; i < kChunks; ++i) {
    const std::string content = absl::StrCat("content ", i);
    const Digest chunk = Sha256(AsBytes(content));
    const Fingerprint xxh3 = Xxh3(AsBytes(content));
    records::ChunkRecord record;
    record.set_xxh3(std::string(xxh3.AsKey()));
    record.set_bad(i % 10 == 0);
    const uint64_t project = 1 + static_cast<uint64_t>(i % 3);
    change.puts.emplace_back(ChunkKey(project, chunk), record.SerializeAsString());
    if (!record.bad()) index.insert(FingerprintKey(project, xxh3, chunk));
  }
  return change;
}

std::set<std::string> IndexOf(const CatalogReader& catalog) {
  std::set<std::string> index;
  EXPECT_OK(catalog.Scan(FingerprintPrefix(), PrefixEnd(FingerprintPrefix()), false,
                         [&](absl::string_view key, absl::string_view) {
                           index.emplace(key);
                           return true;
                         }));
  return index;
}

TEST(SchemaMigrationTest, TheIndexIsBuiltFromTheChunks) {
  MemoryCatalog catalog;
  std::set<std::string> expected;
  ASSERT_OK(catalog.Apply(Schema1(expected)));
  ASSERT_OK(MigrateSchema(catalog, 1));
  EXPECT_EQ(IndexOf(catalog), expected);
  EXPECT_EQ(*catalog.Get(SchemaKey()), "2");
  ASSERT_OK(MigrateSchema(catalog, kSchemaVersion));
  EXPECT_EQ(IndexOf(catalog), expected);
}

TEST(SchemaMigrationTest, AMigrationThatWasInterruptedBeginsAgain) {
  for (int spared = 0; spared < 4; ++spared) {
    MemoryCatalog catalog;
    std::set<std::string> expected;
    ASSERT_OK(catalog.Apply(Schema1(expected)));
    catalog.FailApplyForTest(MakeError(Reason::IO_ERROR, "the power fails"), spared);
    EXPECT_THAT(MigrateSchema(catalog, 1), FailsWith(Reason::IO_ERROR));
    EXPECT_EQ(*catalog.Get(SchemaKey()), "1");
    catalog.FailApplyForTest(absl::OkStatus());
    ASSERT_OK(MigrateSchema(catalog, 1));
    EXPECT_EQ(IndexOf(catalog), expected);
    EXPECT_EQ(*catalog.Get(SchemaKey()), "2");
  }
}

TEST(SchemaMigrationTest, AnOpenMigrates) {
  const TempDir dir;
  std::set<std::string> expected;
  {
    ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
    EXPECT_EQ(*catalog->Get(SchemaKey()), "2");
    ASSERT_OK(catalog->Apply(Schema1(expected)));
  }
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
  EXPECT_EQ(IndexOf(*catalog), expected);
  EXPECT_EQ(*catalog->Get(SchemaKey()), "2");
}

TEST(SchemaMigrationTest, ADamagedChunkRecordStopsIt) {
  MemoryCatalog catalog;
  ChangeSet change;
  change.puts.emplace_back(SchemaKey(), "1");
  change.puts.emplace_back(ChunkKey(1, Sha256(AsBytes("x"))), "\xff\xff");
  ASSERT_OK(catalog.Apply(change));
  EXPECT_THAT(MigrateSchema(catalog, 1), FailsWith(Reason::CATALOG_CORRUPT));
  EXPECT_EQ(*catalog.Get(SchemaKey()), "1");
}

}  // namespace
}  // namespace sconce::catalog
