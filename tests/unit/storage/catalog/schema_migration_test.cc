#include "storage/catalog/schema_migration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
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
  EXPECT_EQ(*catalog.Get(SchemaKey()), absl::StrCat(kSchemaVersion));
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
    EXPECT_EQ(*catalog.Get(SchemaKey()), absl::StrCat(kSchemaVersion));
  }
}

TEST(SchemaMigrationTest, AnOpenMigrates) {
  const TempDir dir;
  std::set<std::string> expected;
  {
    ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
    EXPECT_EQ(*catalog->Get(SchemaKey()), absl::StrCat(kSchemaVersion));
    ASSERT_OK(catalog->Apply(Schema1(expected)));
  }
  ASSERT_OK_AND_ASSIGN(const auto catalog, RocksDbCatalog::Open(dir / "catalog"));
  EXPECT_EQ(IndexOf(*catalog), expected);
  EXPECT_EQ(*catalog->Get(SchemaKey()), absl::StrCat(kSchemaVersion));
}

// Versions of two runs, of every kind that is indexed in a way of its own, as schema 2 has them.
ChangeSet Schema2(std::set<std::string>& index) {
  constexpr int64_t kVersions = 1500;  // several batches
  ChangeSet change;
  change.puts.emplace_back(SchemaKey(), "2");
  for (int64_t version = 1; version <= kVersions; ++version) {
    const uint64_t run = 1 + static_cast<uint64_t>(version % 2);
    records::CheckpointRecord record;
    record.set_version(version);
    record.set_create_time_ns(version * 1000);
    record.set_step(version * 10);
    if (version % 3 == 0) record.set_epoch(-version);
    record.set_pinned(version % 5 == 0);
    record.set_manifest_corrupt(version % 7 == 0);
    if (version % 11 == 0) record.set_kind(records::CHECKPOINT_KIND_OPAQUE);
    records::MetricEntry& loss = *record.add_metrics();
    loss.set_name("loss");
    loss.set_value(version % 4 == 0 ? std::nan("") : 1.0 / static_cast<double>(version));
    records::LabelEntry& label = *record.add_labels();
    label.set_key("stage");
    label.set_value(absl::StrCat(version % 10));
    change.puts.emplace_back(CheckpointKey(run, version), record.SerializeAsString());
    index.insert(NumberKey(run, NumberField::kCreateTime, version * 1000, version));
    index.insert(NumberKey(run, NumberField::kStep, version * 10, version));
    if (version % 3 == 0) index.insert(NumberKey(run, NumberField::kEpoch, -version, version));
    if (version % 5 == 0) index.insert(NumberKey(run, NumberField::kPinned, 1, version));
    if (version % 7 == 0) index.insert(NumberKey(run, NumberField::kQuarantined, 1, version));
    if (version % 11 == 0) index.insert(NumberKey(run, NumberField::kOpaque, 1, version));
    index.insert(LabelKey(run, "stage", absl::StrCat(version % 10), version));
    if (version % 4 == 0 || version % 7 == 0) {
      index.insert(LoserMetricKey(run, "loss", loss.value(), version));
      continue;
    }
    const std::string key = MetricKey(run, "loss", loss.value(), version);
    index.insert(key);
    change.puts.emplace_back(key, "");
  }
  return change;
}

std::set<std::string> VersionIndexOf(const CatalogReader& catalog) {
  std::set<std::string> index;
  for (const char* letter : {"m", "M", "N", "L"}) {
    EXPECT_OK(catalog.Scan(letter, PrefixEnd(letter), false, [&](absl::string_view key, absl::string_view value) {
      EXPECT_EQ(value, "");
      index.emplace(key);
      return true;
    }));
  }
  return index;
}

TEST(SchemaMigrationTest, WhatVersionsAreListedByIsBuiltFromTheirRecords) {
  MemoryCatalog catalog;
  std::set<std::string> expected;
  ASSERT_OK(catalog.Apply(Schema2(expected)));
  catalog.FailApplyForTest(MakeError(Reason::IO_ERROR, "the power fails"), 1);
  EXPECT_THAT(MigrateSchema(catalog, 2), FailsWith(Reason::IO_ERROR));
  EXPECT_EQ(*catalog.Get(SchemaKey()), "2");
  catalog.FailApplyForTest(absl::OkStatus());
  ASSERT_OK(MigrateSchema(catalog, 2));
  EXPECT_EQ(*catalog.Get(SchemaKey()), absl::StrCat(kSchemaVersion));
  EXPECT_EQ(VersionIndexOf(catalog), expected);
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
