#include "storage/format/crc32.h"

#include <gtest/gtest.h>

#include <string>

namespace sconce::format {
namespace {

TEST(Crc32Test, GivesTheCheckValueOfTheStandard) {
  EXPECT_EQ(Crc32(AsBytes("123456789")), 0xcbf43926u);
  EXPECT_EQ(Crc32({}), 0u);
}

TEST(Crc32Test, ContinuesFromWhatCameBefore) {
  std::string data;
  for (int i = 0; i < 5000; ++i) data.push_back(static_cast<char>(i * 7));
  const ByteSpan whole = AsBytes(data);
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{63}, size_t{4096}, data.size()}) {
    EXPECT_EQ(Crc32(whole.subspan(cut), Crc32(whole.subspan(0, cut))), Crc32(whole)) << cut;
  }
}

}  // namespace
}  // namespace sconce::format
