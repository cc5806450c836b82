#include "storage/format/shard_cover.h"

#include <random>

#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Texts(const std::vector<Box>& boxes) {
  std::vector<std::string> texts;
  for (const Box& box : boxes) texts.push_back(BoxText(box));
  return texts;
}

std::vector<std::string> Gaps(const Dims& global, const std::vector<Box>& shards) {
  const absl::StatusOr<ShardCover> cover = CoverOf(global, shards, 100);
  EXPECT_OK(cover);
  EXPECT_THAT(cover->overlaps, IsEmpty());
  return Texts(cover->gaps);
}

std::vector<std::string> Overlaps(const Dims& global, const std::vector<Box>& shards) {
  const absl::StatusOr<ShardCover> cover = CoverOf(global, shards, 100);
  EXPECT_OK(cover);
  std::vector<std::string> texts;
  for (const ShardOverlap& o : cover->overlaps) {
    texts.push_back(std::to_string(o.first) + "," + std::to_string(o.second) + BoxText(o.box));
  }
  return texts;
}

TEST(ShardCoverTest, WholeTensors) {
  EXPECT_THAT(Gaps({4, 2}, {{{0, 0}, {2, 2}}, {{2, 0}, {2, 2}}}), IsEmpty());
  EXPECT_THAT(Gaps({4, 2}, {{{0, 1}, {4, 1}}, {{0, 0}, {4, 1}}}), IsEmpty());
  EXPECT_THAT(Gaps({}, {{{}, {}}}), IsEmpty());
  EXPECT_THAT(Gaps({0, 5}, {}), IsEmpty()) << "nothing to cover";
  EXPECT_THAT(Gaps({3}, {{{1}, {0}}, {{0}, {3}}, {{3}, {0}}}), IsEmpty()) << "empty shards cover nothing";
  // Five boxes around a middle, which no cut goes through from side to side.
  EXPECT_THAT(Gaps({3, 3}, {{{0, 0}, {1, 2}}, {{0, 2}, {2, 1}}, {{2, 1}, {1, 2}}, {{1, 0}, {2, 1}}, {{1, 1}, {1, 1}}}),
              IsEmpty());
}

TEST(ShardCoverTest, NamesGaps) {
  EXPECT_THAT(Gaps({4, 2}, {}), ElementsAre("[0:4, 0:2]"));
  EXPECT_THAT(Gaps({}, {}), ElementsAre("[]"));
  EXPECT_THAT(Gaps({10, 2}, {{{2, 0}, {3, 2}}, {{6, 0}, {1, 1}}}),
              ElementsAre("[0:2, 0:2]", "[5:6, 0:2]", "[6:7, 1:2]", "[7:10, 0:2]"));
  EXPECT_THAT(Gaps({3, 3}, {{{0, 0}, {1, 2}}, {{0, 2}, {2, 1}}, {{2, 1}, {1, 2}}, {{1, 0}, {2, 1}}}),
              ElementsAre("[1:2, 1:2]"));
}

TEST(ShardCoverTest, NamesOverlapsOnceForEachPair) {
  EXPECT_THAT(Overlaps({4, 2}, {{{1, 0}, {3, 2}}, {{0, 0}, {2, 2}}}), ElementsAre("0,1[1:2, 0:2]"));
  EXPECT_THAT(Overlaps({}, {{{}, {}}, {{}, {}}}), ElementsAre("0,1[]"));
  // Three cuts within the part that two have in common.
  EXPECT_THAT(Overlaps({4, 2}, {{{0, 0}, {4, 1}}, {{0, 0}, {4, 1}}, {{0, 1}, {1, 1}}, {{1, 1}, {3, 1}}}),
              ElementsAre("0,1[0:1, 0:1]"));
}

TEST(ShardCoverTest, StopsWhenItHasFoundEnough) {
  std::vector<Box> same(1000, Box{{0}, {5}});
  ASSERT_OK_AND_ASSIGN(const ShardCover cover, CoverOf({5}, same, 3));
  EXPECT_EQ(cover.overlaps.size(), 3u);
  ASSERT_OK_AND_ASSIGN(const ShardCover holes, CoverOf({1'000'000}, {{{7}, {1}}, {{9}, {1}}, {{11}, {1}}}, 2));
  EXPECT_EQ(holes.gaps.size(), 2u);
}

TEST(ShardCoverTest, ALargeGridIsNoTrouble) {
  std::vector<Box> shards;
  for (int64_t x = 0; x < 200; ++x) {
    for (int64_t y = 0; y < 20; ++y) {
      for (int64_t z = 0; z < 20; ++z) shards.push_back({{x * 3, y * 5, z}, {3, 5, 1}});
    }
  }
  std::shuffle(shards.begin(), shards.end(), std::mt19937(1));
  EXPECT_THAT(Gaps({600, 100, 20}, shards), IsEmpty());
  shards.pop_back();
  EXPECT_EQ(Gaps({600, 100, 20}, shards).size(), 1u);
}

TEST(ShardCoverTest, ManyIrregularOnesAreRefusedRatherThanHeldAgainstEachOther) {
  constexpr int64_t kMany = 100'000;
  std::vector<Box> stairs;  // each begins and ends in a row of its own, in a column of its own
  for (int64_t i = 0; i < kMany; ++i) stairs.push_back({{i, i}, {kMany, 1}});
  EXPECT_THAT(CoverOf({2 * kMany, kMany}, stairs, SIZE_MAX), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST(ShardCoverTest, AgreesWithCountingEveryElement) {
  std::mt19937 random(7);
  const auto below = [&](int64_t limit) { return std::uniform_int_distribution<int64_t>(0, limit - 1)(random); };
  int whole = 0;
  for (int round = 0; round < 3000; ++round) {
    const Dims global = {1 + below(4), 1 + below(4), 1 + below(3)};
    // Cut the whole at random, then perhaps spoil it.
    std::vector<Box> shards = {{{0, 0, 0}, global}};
    for (int cut = 0; cut < 4; ++cut) {
      const size_t at = static_cast<size_t>(below(static_cast<int64_t>(shards.size())));
      const size_t d = static_cast<size_t>(below(3));
      Box second = shards[at];
      const int64_t keep = below(second.size[d] + 1);
      shards[at].size[d] = keep;
      second.offset[d] += keep;
      second.size[d] -= keep;
      shards.push_back(second);
    }
    if (below(3) == 0) shards.erase(shards.begin() + below(static_cast<int64_t>(shards.size())));
    if (below(3) == 0) shards.push_back(shards[static_cast<size_t>(below(static_cast<int64_t>(shards.size())))]);
    bool overlap = false;
    int64_t missing = 0;
    for (int64_t x = 0; x < global[0]; ++x) {
      for (int64_t y = 0; y < global[1]; ++y) {
        for (int64_t z = 0; z < global[2]; ++z) {
          int owners = 0;
          for (const Box& box : shards) {
            const auto in = [&](size_t d, int64_t i) { return i >= box.offset[d] && i < box.offset[d] + box.size[d]; };
            owners += in(0, x) && in(1, y) && in(2, z) ? 1 : 0;
          }
          overlap = overlap || owners > 1;
          missing += owners == 0 ? 1 : 0;
        }
      }
    }
    ASSERT_OK_AND_ASSIGN(const ShardCover cover, CoverOf(global, shards, SIZE_MAX));
    int64_t found = 0;
    for (const Box& gap : cover.gaps) found += ElementCount(gap.size);
    ASSERT_EQ(found, missing) << round;
    ASSERT_EQ(!cover.overlaps.empty(), overlap) << round;
    whole += !overlap && missing == 0 ? 1 : 0;
  }
  EXPECT_GT(whole, 500);
}

}  // namespace
}  // namespace sconce::format
