#include "storage/repository/pin_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;

const std::vector<Digest>& Chunks() {
  static const auto* const chunks = new std::vector<Digest>{Sha256(AsBytes("a")), Sha256(AsBytes("b"))};
  return *chunks;
}

TEST(PinTableTest, PinnedChunksAreNotCondemned) {
  PinTable table;
  table.Pin(1, {Chunks()[0]});
  table.Pin(1, {Chunks()[0]});
  EXPECT_THAT(table.Condemn(1, Chunks()), ElementsAre(false, true));
  table.Absolve(1, Chunks(), {false, true});
  table.Unpin(1, {Chunks()[0]});
  EXPECT_THAT(table.Condemn(1, {Chunks()[0]}), ElementsAre(false));
  table.Unpin(1, {Chunks()[0]});
  EXPECT_THAT(table.Condemn(1, {Chunks()[0]}), ElementsAre(true));
}

TEST(PinTableTest, ProjectsDoNotMeet) {
  PinTable table;
  table.Pin(1, Chunks());
  EXPECT_THAT(table.Condemn(2, Chunks()), ElementsAre(true, true));
}

TEST(PinTableTest, PinningACondemnedChunkWaitsForTheEndOfThat) {
  PinTable table;
  const std::vector<bool> condemned = table.Condemn(1, Chunks());
  std::atomic<bool> absolved{false};
  std::thread push([&] {
    table.Pin(1, Chunks());
    EXPECT_TRUE(absolved);
  });
  absolved = true;
  table.Absolve(1, Chunks(), condemned);
  push.join();
  EXPECT_THAT(table.Condemn(1, Chunks()), ElementsAre(false, false));
}

TEST(PinTableTest, ASetReleasesAllItsPins) {
  PinTable table;
  {
    PinSet set(table, 1);
    set.Add({Chunks()[0]});
    set.Add({Chunks()[1]});
    EXPECT_THAT(table.Condemn(1, Chunks()), ElementsAre(false, false));
  }
  EXPECT_THAT(table.Condemn(1, Chunks()), ElementsAre(true, true));
}

}  // namespace
}  // namespace sconce::repository
