#include "storage/repository/contents_cache.h"

#include <gtest/gtest.h>

namespace sconce::repository {

struct Contents {  // the cache does not look inside
  int number = 0;
};

namespace {

ContentsCache::Key KeyOf(uint64_t version, int64_t generation = 1) {
  return {{catalog::Owner::Kind::kVersion, 1, version}, generation};
}
std::shared_ptr<const Contents> Make(int number) {
  return std::make_shared<const Contents>(Contents{number});
}

TEST(ContentsCacheTest, KeepsTheTwoUsedLast) {
  ContentsCache cache;
  cache.Insert(KeyOf(1), Make(1));
  cache.Insert(KeyOf(2), Make(2));
  ASSERT_NE(cache.Find(KeyOf(1)), nullptr);
  cache.Insert(KeyOf(3), Make(3));
  EXPECT_EQ(cache.Find(KeyOf(2)), nullptr);
  ASSERT_NE(cache.Find(KeyOf(1)), nullptr);
  EXPECT_EQ(cache.Find(KeyOf(1))->number, 1);
  EXPECT_EQ(cache.Find(KeyOf(3))->number, 3);
}

TEST(ContentsCacheTest, AnotherGenerationIsAnotherObject) {
  ContentsCache cache;
  cache.Insert(KeyOf(1, 1), Make(1));
  EXPECT_EQ(cache.Find(KeyOf(1, 2)), nullptr);
}

TEST(ContentsCacheTest, ClearingLetsGoOfWhatItHeld) {
  ContentsCache cache;
  std::shared_ptr<const Contents> contents = Make(1);
  const std::weak_ptr<const Contents> watch = contents;
  cache.Insert(KeyOf(1), std::move(contents));
  EXPECT_FALSE(watch.expired());
  cache.Clear();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace sconce::repository
