#include "client/cpp/chunk_plan.h"

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::client {
namespace {

using ::testing::HasSubstr;

format::Manifest ManifestOf(const std::vector<std::pair<int64_t, std::string>>& storages) {
  format::Manifest manifest;
  for (const auto& [size_bytes, device] : storages) {
    format::Storage storage;
    storage.size_bytes = size_bytes;
    storage.device = device;
    manifest.storages.push_back(storage);
  }
  return manifest;
}

google::protobuf::RepeatedPtrField<v1::ChunkRange> Ranges(const std::vector<std::pair<int64_t, int64_t>>& ranges) {
  google::protobuf::RepeatedPtrField<v1::ChunkRange> result;
  for (const auto& [first, last] : ranges) {
    result.Add()->set_first(first);
    result.rbegin()->set_last(last);
  }
  return result;
}

constexpr int64_t kMib = 1 << 20;

TEST(ChunkPlanTest, ChunksAreNumberedThroughBulkStoragesOnly) {
  const ChunkPlan plan(
      ManifestOf({{9 * kMib, "cpu"}, {1024, "cpu"}, {4 * kMib, "cuda:0"}, {1 << 30, "meta"}, {1025, "cpu"}}));
  EXPECT_EQ(plan.chunk_count(), 3 + 1 + 1);
  EXPECT_EQ(plan.bulk_bytes(), 13 * kMib + 1025);
  ASSERT_EQ(plan.storages().size(), 3U);
  EXPECT_EQ(plan.storages()[1].storage, 2U);
  EXPECT_EQ(plan.storages()[1].first, 3);
  EXPECT_EQ(plan.storages()[1].count, 1);
  EXPECT_EQ(plan.storages()[2].storage, 4U);
  EXPECT_EQ(plan.storages()[2].first, 4);
}

TEST(ChunkPlanTest, AManifestWithoutBulkHasNoChunks) {
  const ChunkPlan plan(ManifestOf({{1024, "cpu"}, {0, "cpu"}}));
  EXPECT_EQ(plan.chunk_count(), 0);
  EXPECT_EQ(plan.bulk_bytes(), 0);
}

TEST(ChunkPlanTest, WhatIsSettledTwiceCountsOnce) {
  ChunkPlan plan(ManifestOf({{9 * kMib, "cpu"}, {9 * kMib, "cpu"}}));
  ASSERT_OK(plan.Settle(Ranges({{0, 0}, {2, 4}})));
  ASSERT_OK(plan.Settle(Ranges({{3, 3}})));
  plan.Settle(4);
  EXPECT_EQ(plan.settled_chunks(), 4);
  EXPECT_FALSE(plan.IsSettled(1));
  EXPECT_FALSE(plan.IsSettled(plan.storages()[0]));
  plan.Settle(5);
  EXPECT_TRUE(plan.IsSettled(plan.storages()[1]));
}

TEST(ChunkPlanTest, RangesThatDoNotExistAreRefused) {
  ChunkPlan plan(ManifestOf({{9 * kMib, "cpu"}}));
  for (const auto& [first, last] : std::vector<std::pair<int64_t, int64_t>>{{-1, 0}, {2, 1}, {0, 3}, {1, INT64_MAX}}) {
    EXPECT_THAT(plan.Settle(Ranges({{first, last}})), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("this part has 3")));
  }
  EXPECT_EQ(plan.settled_chunks(), 0);
}

}  // namespace
}  // namespace sconce::client
