#include "storage/format/latin1.h"

#include <gtest/gtest.h>

namespace sconce::format {
namespace {

TEST(Latin1Test, EveryByteBecomesTheCharacterOfItsNumber) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  std::string text = "before";
  AppendLatin1Utf8(AsBytes(bytes), text);
  EXPECT_EQ(text.size(), 6 + Latin1Utf8Bytes(AsBytes(bytes)));
  EXPECT_EQ(text.size(), 6 + 128 + 2 * 128);
  EXPECT_EQ(text.substr(0, 6), "before");
  EXPECT_EQ(text.substr(6, 128), bytes.substr(0, 128));
  EXPECT_EQ(text.substr(134, 4), "\u0080\u0081");
  EXPECT_EQ(text.substr(text.size() - 2), "\u00ff");
}

TEST(Latin1Test, NothingBecomesNothing) {
  std::string text;
  AppendLatin1Utf8({}, text);
  EXPECT_EQ(text, "");
  EXPECT_EQ(Latin1Utf8Bytes({}), 0);
}

}  // namespace
}  // namespace sconce::format
