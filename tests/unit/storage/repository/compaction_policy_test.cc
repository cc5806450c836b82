#include "storage/repository/compaction_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kMiB = int64_t{1} << 20;

blob::BlobId Id(uint8_t number, uint64_t project = 1) {
  blob::BlobId id;
  id.project_uid = project;
  id.id[0] = number;
  return id;
}
WastefulBlob Owned(uint8_t number, int64_t allocated, int64_t live) {
  return {Id(number), allocated, live, 1000};
}
WastefulBlob Ownerless(uint8_t number, int64_t allocated, int64_t live, uint64_t project = 1) {
  return {Id(number, project), allocated, live, 0};
}

// The blobs' numbers, by group.
std::vector<std::vector<int>> Choose(std::vector<WastefulBlob> blobs, std::optional<int64_t> physical) {
  std::vector<std::vector<int>> numbers;
  for (const CompactionGroup& group : ChooseBlobs(std::move(blobs), physical)) {
    numbers.emplace_back();
    for (const WastefulBlob& blob : group) numbers.back().push_back(blob.id.id[0]);
  }
  return numbers;
}

TEST(CompactionPolicyTest, AChunkTakesItsPaddingAndItsRow) {
  EXPECT_EQ(ChunkFootprint(1), 64 + 64);
  EXPECT_EQ(ChunkFootprint(1100), 1152 + 64);
  EXPECT_EQ(ChunkFootprint((64 << 10) - 1), (64 << 10) + 64);
  EXPECT_EQ(ChunkFootprint(64 << 10), (64 << 10) + 64);
  EXPECT_EQ(ChunkFootprint((64 << 10) + 1), (64 << 10) + 4096 + 64);
}

TEST(CompactionPolicyTest, ABlobThatCannotGetSmallerWastesNothing) {
  EXPECT_EQ(RewrittenBytes(0, 500), 4096);
  EXPECT_EQ(WasteOf(Owned(1, 4096, 0)), 0);
  EXPECT_EQ(WasteOf(Owned(1, 4096, 2900)), 0);
  EXPECT_EQ(WasteOf(Owned(1, 8192, 2900)), 4096);
  EXPECT_EQ(WasteOf(Owned(1, 4096, 9000)), 0);  // never negative
  EXPECT_EQ(WasteOf(Ownerless(1, 4096, 1200)), 4096 - 1200);
  EXPECT_THAT(Choose({Owned(1, 4096, 0)}, 4096), IsEmpty());
}

TEST(CompactionPolicyTest, AMostlyDeadBlobIsAlwaysTaken) {
  const std::vector<WastefulBlob> blobs = {Owned(1, 100 * kMiB, 49 * kMiB), Owned(2, 100 * kMiB, 51 * kMiB)};
  EXPECT_THAT(Choose(blobs, std::nullopt), ElementsAre(ElementsAre(1)));
  EXPECT_THAT(Choose(blobs, int64_t{1} << 50), ElementsAre(ElementsAre(1)));
}

TEST(CompactionPolicyTest, OthersAreTakenMostWastefulFirstUntilLittleIsWasted) {
  // 60 MiB of 1000 are wasted; without the first blob's 30 only 30, which is less than 4 percent of the 940 live.
  const std::vector<WastefulBlob> blobs = {Owned(1, 100 * kMiB, 90 * kMiB), Owned(2, 100 * kMiB, 70 * kMiB),
                                           Owned(3, 100 * kMiB, 80 * kMiB)};
  EXPECT_THAT(Choose(blobs, 1000 * kMiB), ElementsAre(ElementsAre(2)));
  EXPECT_THAT(Choose(blobs, 400 * kMiB), ElementsAre(ElementsAre(2), ElementsAre(3)));
  EXPECT_THAT(Choose(blobs, 2000 * kMiB), IsEmpty());
}

TEST(CompactionPolicyTest, WhatRemainsWastedIsBelowTheBound) {
  std::vector<WastefulBlob> blobs;
  int64_t physical = 0, wasted = 0;
  for (uint8_t i = 1; i < 200; ++i) {
    blobs.push_back(Owned(i, 10 * kMiB, 10 * kMiB - i * (kMiB / 40) / 4096 * 4096));
    physical += blobs.back().allocated_bytes;
    wasted += WasteOf(blobs.back());
  }
  for (const CompactionGroup& group : ChooseBlobs(blobs, physical)) {
    for (const WastefulBlob& blob : group) {
      wasted -= WasteOf(blob);
      physical -= WasteOf(blob);
    }
  }
  EXPECT_LE(static_cast<double>(wasted), kMaxWaste * static_cast<double>(physical - wasted));
  EXPECT_GT(wasted, 0);  // and no more is copied than that takes
}

TEST(CompactionPolicyTest, WhatOwnersLeftIsMergedWithinItsProject) {
  const std::vector<WastefulBlob> blobs = {Ownerless(1, 4096, 1200), Ownerless(2, 4096, 1200),
                                           Ownerless(3, 4096, 1200, 2), Ownerless(4, 4096, 1200, 2)};
  EXPECT_THAT(Choose(blobs, 16384), ElementsAre(ElementsAre(1, 2), ElementsAre(3, 4)));
}

TEST(CompactionPolicyTest, ALoneRemnantThatFillsItsPageStays) {
  EXPECT_THAT(Choose({Ownerless(1, 4096, 1200)}, 4096), IsEmpty());
  EXPECT_THAT(Choose({Ownerless(1, 4096, 1200), Ownerless(2, 4096, 1200, 2)}, 8192), IsEmpty());
  EXPECT_THAT(Choose({Ownerless(1, 4096, 4000), Ownerless(2, 4096, 4000)}, 8192), IsEmpty());  // two pages again
}

TEST(CompactionPolicyTest, SmallRemnantsComeAlongWithAMerge) {
  const std::vector<WastefulBlob> blobs = {Ownerless(1, 10 * kMiB, kMiB), Ownerless(2, kMiB, kMiB - 4096),
                                           Ownerless(3, 9 * kMiB, 9 * kMiB - 4096)};
  EXPECT_THAT(Choose(blobs, std::nullopt), ElementsAre(ElementsAre(1, 2)));
}

TEST(CompactionPolicyTest, AMergedBlobStaysBounded) {
  std::vector<WastefulBlob> blobs;
  for (uint8_t i = 1; i <= 100; ++i) blobs.push_back(Ownerless(i, 40 * kMiB, 10 * kMiB));
  const auto groups = ChooseBlobs(blobs, std::nullopt);
  EXPECT_THAT(groups, SizeIs(4));
  for (const CompactionGroup& group : groups) EXPECT_LE(group.size(), 25u);
}

TEST(CompactionPolicyTest, NothingWastedIsNothingToDo) {
  EXPECT_THAT(ChooseBlobs({}, 0), IsEmpty());
  EXPECT_THAT(ChooseBlobs({}, std::nullopt), IsEmpty());
}

}  // namespace
}  // namespace sconce::repository
