#include "server/config_values.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce {
namespace {

using ::testing::HasSubstr;

TEST(ConfigValuesTest, Bytes) {
  EXPECT_EQ(ParseBytes("0").value(), 0);
  EXPECT_EQ(ParseBytes("512").value(), 512);
  EXPECT_EQ(ParseBytes("512B").value(), 512);
  EXPECT_EQ(ParseBytes("4KiB").value(), 4096);
  EXPECT_EQ(ParseBytes("4k").value(), 4096);
  EXPECT_EQ(ParseBytes("10 GiB").value(), int64_t{10} << 30);
  EXPECT_EQ(ParseBytes("1T").value(), int64_t{1} << 40);
  for (const char* text : {"", "x", "-1", "1.5GiB", "1 XB", "MiB", "9223372036854775808", "9000000TiB", "1GiBx"}) {
    EXPECT_THAT(ParseBytes(text), FailsWith(Reason::CONFIG_INVALID)) << text;
  }
}

TEST(ConfigValuesTest, Durations) {
  EXPECT_EQ(ParsePositiveDuration("0s").value(), absl::ZeroDuration());
  EXPECT_EQ(ParsePositiveDuration("1m30s").value(), absl::Seconds(90));
  EXPECT_EQ(ParsePositiveDuration("500ms").value(), absl::Milliseconds(500));
  for (const char* text : {"", "5", "-1s", "25h", "inf", "soon"}) {
    EXPECT_THAT(ParsePositiveDuration(text), FailsWith(Reason::CONFIG_INVALID, HasSubstr("500ms"))) << text;
  }
}

TEST(ConfigValuesTest, Counts) {
  EXPECT_EQ(ParseCount("7", 1, 8).value(), 7);
  for (const char* text : {"0", "9", "", "x", "1.0", "99999999999"}) {
    EXPECT_THAT(ParseCount(text, 1, 8), FailsWith(Reason::CONFIG_INVALID, HasSubstr("from 1 to 8"))) << text;
  }
}

TEST(ConfigValuesTest, Addresses) {
  for (const char* address :
       {"127.0.0.1:7433", "0.0.0.0:0", "host.example:65535", "[::1]:7433", "[::]:0", "unix:/run/s", "unix:relative"}) {
    EXPECT_OK(CheckAddress(address)) << address;
  }
  for (const char* address : {"", "nonsense", ":7433", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:7433",
                              "127.0.0.1:http", "unix:"}) {
    EXPECT_THAT(CheckAddress(address), FailsWith(Reason::CONFIG_INVALID)) << address;
  }
  EXPECT_THAT(CheckAddress("unix:/" + std::string(107, 'x')), FailsWith(Reason::CONFIG_INVALID, HasSubstr("107")));
}

TEST(ConfigValuesTest, TheClosestNameIsNearOrNone) {
  EXPECT_EQ(ClosestName("lisen", {"listen", "log-level"}), "listen");
  EXPECT_EQ(ClosestName("loglevel", {"listen", "log-level"}), "log-level");
  EXPECT_EQ(ClosestName("colour", {"listen", "log-level"}), "");
}

}  // namespace
}  // namespace sconce
