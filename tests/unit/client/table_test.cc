#include "client/cli/table.h"

#include <gtest/gtest.h>

namespace sconce::cli {
namespace {

TEST(TableTest, LinesUpColumnsWithoutTrailingSpaces) {
  Table table({{"NAME"}, {"BYTES", Align::kRight}, {"NOTE"}});
  table.AddRow({"a", "1", ""});
  table.AddRow({"h\xc3\xa9llo", "12,345,678", "x"});
  EXPECT_EQ(table.Render(),
            "NAME        BYTES  NOTE\n"
            "a               1\n"
            "h\xc3\xa9llo  12,345,678  x\n");
}

TEST(TableTest, FiguresReadWell) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1000), "1,000");
  EXPECT_EQ(Grouped(-1234567), "-1,234,567");
  EXPECT_EQ(ShortNumber(0.03125), "0.03125");
  EXPECT_EQ(ShortNumber(1e300), "1e+300");
}

TEST(TableTest, AgesAreRounded) {
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  EXPECT_EQ(HumanAge(now, now), "just now");
  EXPECT_EQ(HumanAge(now - absl::Minutes(5), now), "5 min ago");
  EXPECT_EQ(HumanAge(now - absl::Hours(47), now), "47 h ago");
  EXPECT_EQ(HumanAge(now - absl::Hours(24 * 40), now), "2023-10-05");
}

}  // namespace
}  // namespace sconce::cli
