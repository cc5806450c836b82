#include "storage/format/json_scanner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

std::string Resolved(const std::string& json) {
  JsonScanner scanner(json);
  const auto text = scanner.String();
  return text.ok() ? *text : "error";
}

TEST(JsonScannerTest, EscapesAreResolved) {
  EXPECT_EQ(Resolved(R"("a\"\\\/\b\f\n\r\tz")"), "a\"\\/\b\f\n\r\tz");
  EXPECT_EQ(Resolved(R"("\u0041\u00e9\u20AC\ud83d\ude00")"), "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
}

TEST(JsonScannerTest, BrokenStringsAreRefused) {
  for (const char* json : {"a", "\"a", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800x\"", "\"\\ud800\\n\"",
                           "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\n\"", "\"\xff\"", "\"\xed\xa0\x80\"", ""}) {
    EXPECT_EQ(Resolved(json), "error") << json;
  }
}

TEST(JsonScannerTest, OnlyWholeNumbersInRangeAreTaken) {
  const auto number = [](const std::string& json) {
    JsonScanner scanner(json);
    return scanner.Integer().value_or(-1);
  };
  EXPECT_EQ(number(" 0"), 0);
  EXPECT_EQ(number("9223372036854775807]"), INT64_MAX);
  for (const char* json : {"", "-1", "+1", "01", "1.0", "1e3", "9223372036854775808", "99999999999999999999", "x"})
    EXPECT_EQ(number(json), -1) << json;
}

TEST(JsonScannerTest, WhiteSpaceIsSkippedBetweenTokens) {
  JsonScanner scanner(" \t\r\n{ \"a\" : [ null , 1 ] } ");
  ASSERT_OK(scanner.Expect('{'));
  EXPECT_EQ(*scanner.String(), "a");
  EXPECT_TRUE(scanner.Take(':'));
  EXPECT_FALSE(scanner.Take('{'));
  EXPECT_TRUE(scanner.Take('['));
  EXPECT_TRUE(scanner.TakeWord("null"));
  EXPECT_TRUE(scanner.Take(','));
  EXPECT_EQ(*scanner.Integer(), 1);
  EXPECT_OK(scanner.Expect(']'));
  EXPECT_FALSE(scanner.AtEnd());
  EXPECT_THAT(scanner.Expect(']'), FailsWith(Reason::FILE_MALFORMED, ::testing::HasSubstr("byte 25")));
  EXPECT_OK(scanner.Expect('}'));
  EXPECT_TRUE(scanner.AtEnd());
}

TEST(AppendJsonStringTest, WhatIsWrittenIsReadAgain) {
  std::string all;
  for (int c = 0; c < 0x80; ++c) all.push_back(static_cast<char>(c));
  all += "\xc3\xa9\xf0\x9f\x98\x80";
  std::string json;
  AppendJsonString(all, json);
  EXPECT_EQ(Resolved(json), all);
  EXPECT_THAT(json, ::testing::HasSubstr("\\u0000\\u0001"));
  EXPECT_THAT(json, ::testing::HasSubstr("\\u001f !\\\"#"));
}

}  // namespace
}  // namespace sconce::format
