#include "storage/format/python_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

constexpr size_t kPlenty = 1000;

std::string Encode(const std::string& text, const std::string& codec, const std::string& errors = "strict") {
  const absl::StatusOr<std::string> bytes = EncodeText(text, codec, errors, kPlenty);
  return bytes.ok() ? *bytes : "error";
}

TEST(EncodeTextTest, EachCodecWritesItsForm) {
  EXPECT_EQ(Encode("aé", "latin-1"), "a\xe9");
  EXPECT_EQ(Encode("a", "ascii"), "a");
  EXPECT_EQ(Encode("é😀", "utf-8"), "é😀");
  EXPECT_EQ(Encode("é", "utf-8-sig"), "\xef\xbb\xbfé");
  EXPECT_EQ(Encode("a😀", "utf-16"), std::string("\xff\xfe"
                                                "a\0\x3d\xd8\0\xde",
                                                8));
  EXPECT_EQ(Encode("a😀", "utf-16-be"), std::string("\0a\xd8\x3d\xde\0", 6));
  EXPECT_EQ(Encode("😀", "utf-32-le"), std::string("\0\xf6\1\0", 4));
  EXPECT_EQ(Encode("a", "utf-32"), std::string("\xff\xfe\0\0a\0\0\0", 8));
  EXPECT_EQ(Encode("", "utf-16"), "\xff\xfe");
}

TEST(EncodeTextTest, CodecsGoByAllTheirNames) {
  for (const char* name : {"UTF-8", "utf8", "U8", "Utf_8", "utf 8", " utf-8", "cp65001"})
    EXPECT_EQ(Encode("é", name), "é");
  for (const char* name : {"L1", "iso-8859-1", "ISO_8859-1:1987", "8859", "latin"})
    EXPECT_EQ(Encode("é", name), "\xe9");
  for (const char* name : {"us-ascii", "646", "ANSI_X3.4-1968", "iso_646.irv_1991"}) EXPECT_EQ(Encode("a", name), "a");
  for (const char* name : {"", "utf.8", "ütf-8", "utf-7", "cp1252", "rot13", "nonsense"}) {
    EXPECT_THAT(EncodeText("a", name, "strict", kPlenty), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("codec")))
        << name;
  }
}

TEST(EncodeTextTest, ErrorHandlersSayWhatStandsForAMissingCharacter) {
  const std::string text = "a中\xed\xa0\x80";  // with a lone surrogate
  EXPECT_EQ(Encode(text, "ascii", "ignore"), "a");
  EXPECT_EQ(Encode(text, "ascii", "replace"), "a??");
  EXPECT_EQ(Encode(text, "latin-1", "backslashreplace"), "a\\u4e2d\\ud800");
  EXPECT_EQ(Encode("é😀", "ascii", "backslashreplace"), "\\xe9\\U0001f600");
  EXPECT_EQ(Encode(text, "ascii", "xmlcharrefreplace"), "a&#20013;&#55296;");
  EXPECT_EQ(Encode(text, "utf-8", "surrogatepass"), text);
  EXPECT_EQ(Encode("\xed\xb2\x80", "utf-8", "surrogateescape"), "\x80");
  EXPECT_EQ(Encode(text, "utf-16-le", "replace"), std::string("a\0\x2d\x4e?\0", 6));
  EXPECT_EQ(Encode(text, "utf-8"), "error");
  EXPECT_EQ(Encode(text, "ascii", "surrogatepass"), "error");
  EXPECT_EQ(Encode(text, "ascii", "nonsense"), "error");
  EXPECT_EQ(Encode("a", "ascii", "nonsense"), "a");  // nobody asks it
  EXPECT_THAT(EncodeText(text, "ascii", "namereplace", kPlenty), FailsWith(Reason::FILE_UNSUPPORTED));
}

TEST(EncodeTextTest, ALongResultIsRefused) {
  EXPECT_THAT(EncodeText(std::string(300, 'a'), "utf-32", "strict", kPlenty), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST(ParseComplexTest, ReadsWhatPythonReads) {
  const std::pair<const char*, std::complex<double>> cases[] = {
      {"1", {1, 0}},
      {"1.5", {1.5, 0}},
      {"j", {0, 1}},
      {"-j", {0, -1}},
      {"1+j", {1, 1}},
      {"1-2j", {1, -2}},
      {"1e5-2E-3J", {1e5, -2e-3}},
      {" ( 1+2j ) ", {1, 2}},
      {"1_000", {1000, 0}},
      {".5", {.5, 0}},
      {"5.", {5, 0}},
      {"+1", {1, 0}},
      {"1e-400", {0, 0}},
      {"\t1\n", {1, 0}},
  };
  for (const auto& [text, expected] : cases) {
    const std::optional<std::complex<double>> parsed = ParseComplex(text);
    ASSERT_TRUE(parsed.has_value()) << text;
    EXPECT_EQ(*parsed, expected) << text;
  }
  EXPECT_EQ(ParseComplex("1e400")->real(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(ParseComplex("-Infinityj")->imag(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(ParseComplex("1+nanj")->imag()));
  EXPECT_TRUE(std::signbit(ParseComplex("-0-0j")->real()));
  EXPECT_TRUE(std::signbit(ParseComplex("-0-0j")->imag()));
}

TEST(ParseComplexTest, RefusesWhatPythonRefuses) {
  for (const char* text : {"",
                           "()",
                           "(1",
                           "1)",
                           "((1))",
                           "1+2",
                           "1+2jj",
                           "2j+1",
                           "1 + 2j",
                           "0x10",
                           "1__0",
                           "_1",
                           "1_",
                           "1_.0",
                           "++1",
                           "1+-2j",
                           ".",
                           "1e",
                           "1e+",
                           "i",
                           "\xc2\xa0"
                           "1",
                           "1 2",
                           "-",
                           "e5"}) {
    EXPECT_FALSE(ParseComplex(text).has_value()) << text;
  }
  EXPECT_FALSE(ParseComplex(absl::string_view("1\0", 2)).has_value());
}

TEST(LongToDoubleTest, RoundsToTheNearest) {
  const auto number = [](const std::string& bytes) { return LongToDouble(bytes); };
  EXPECT_EQ(number(std::string("\0\0\0\0\0\0\0\x80\0", 9)), std::ldexp(1, 63));
  EXPECT_EQ(number(std::string("\0\0\0\0\0\0\0\0\xff", 9)), -std::ldexp(1, 64));
  EXPECT_EQ(number(std::string("\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 9)), std::ldexp(1, 71));
  // 2^64 + 2^11 lies between two floats, and is rounded to the even one; a bit more is rounded up.
  EXPECT_EQ(number(std::string("\0\x08\0\0\0\0\0\0\1", 9)), std::ldexp(1, 64));
  EXPECT_EQ(number(std::string("\1\x08\0\0\0\0\0\0\1", 9)), std::ldexp(1, 64) + std::ldexp(1, 12));
  EXPECT_EQ(number(std::string(128, '\0') + '\1'), std::numeric_limits<double>::infinity());
  EXPECT_EQ(number(std::string(127, '\0') + '\1'), std::ldexp(1, 1016));
  EXPECT_EQ(number(std::string(1 << 20, '\x80')), -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace sconce::format
