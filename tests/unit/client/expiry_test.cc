#include "client/cli/expiry.h"

#include "base/error.h"
#include "client/cli/transfer_options.h"
#include "client/cli/upload_target.h"
#include "tests/support/status_matchers.h"

namespace sconce::cli {
namespace {

using ::testing::HasSubstr;

absl::Time At(const char* text) {
  absl::Time time;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, nullptr));
  return time;
}

const absl::Time kNow = At("2026-03-10T09:17:31.5Z");

TEST(ExpiryTest, ATimeIsTakenAsItIs) {
  ASSERT_OK_AND_ASSIGN(const Expiry utc, ParseExpiry("2027-01-31T12:00:00Z", kNow));
  EXPECT_EQ(utc.time, At("2027-01-31T12:00:00Z"));
  EXPECT_FALSE(utc.from_now);
  ASSERT_OK_AND_ASSIGN(const Expiry elsewhere, ParseExpiry("2027-01-31T12:00:00.25+02:00", kNow));
  EXPECT_EQ(elsewhere.time, At("2027-01-31T10:00:00.25Z"));
  ASSERT_OK_AND_ASSIGN(const Expiry never, ParseExpiry("never", kNow));
  EXPECT_EQ(never.time, std::nullopt);
}

TEST(ExpiryTest, ADurationEndsAtAFullUnitOfIt) {
  const std::pair<const char*, const char*> cases[] = {
      {"14d", "2026-03-25T00:00:00Z"}, {"36h", "2026-03-11T22:00:00Z"},   {"1.5h", "2026-03-10T11:00:00Z"},
      {"90m", "2026-03-10T10:48:00Z"}, {"1h30m", "2026-03-10T10:48:00Z"}, {"10s", "2026-03-10T09:17:42Z"}};
  for (const auto& [text, expected] : cases) {
    ASSERT_OK_AND_ASSIGN(const Expiry expiry, ParseExpiry(text, kNow));
    EXPECT_EQ(expiry.time, At(expected)) << text;
    EXPECT_TRUE(expiry.from_now);
  }
  ASSERT_OK_AND_ASSIGN(const Expiry full, ParseExpiry("1h", At("2026-03-10T09:00:00Z")));
  EXPECT_EQ(full.time, At("2026-03-10T10:00:00Z"));
}

TEST(ExpiryTest, WhatIsNeitherIsRefused) {
  for (const char* text : {"", "soon", "14", "-3h", "0d", "d", "200000d", "2027-01-31", "infinite-future",
                           "infinite-past", "2027-13-01T00:00:00Z"}) {
    EXPECT_THAT(ParseExpiry(text, kNow), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("36h"))) << text;
  }
  EXPECT_THAT(ParseExpiry("2026-03-10T09:17:31Z", kNow), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("is past")));
}

TEST(ExpiryTest, TimestampsComeBack) {
  EXPECT_EQ(FormatUtc(ToTimestamp(At("2027-01-31T12:00:00Z"))), "2027-01-31T12:00:00Z");
  EXPECT_EQ(ToTimestamp(kNow).nanos(), 500'000'000);
}

absl::StatusOr<v1::PushHeader> Header(const std::vector<std::string>& words, absl::Time now = kNow) {
  std::vector<Option> options = PushOptions();
  for (Option& option : UploadOptions()) options.push_back(std::move(option));
  const absl::StatusOr<Args> args = ParseArgs(options, words);
  EXPECT_OK(args);
  return PushHeaderFrom(*args, "projects/default/runs/r", now);
}

TEST(ExpiryTest, APushSaysWhenItsVersionExpires) {
  ASSERT_OK_AND_ASSIGN(const v1::PushHeader timed, Header({"--expire", "2027-01-31T12:00:00Z"}));
  EXPECT_EQ(FormatUtc(timed.checkpoint().expire_time()), "2027-01-31T12:00:00Z");
  ASSERT_OK_AND_ASSIGN(const v1::PushHeader none, Header({}));
  EXPECT_FALSE(none.checkpoint().has_expire_time());
  ASSERT_OK_AND_ASSIGN(const v1::PushHeader never, Header({"--expire", "never"}));
  EXPECT_FALSE(never.checkpoint().has_expire_time());
}

TEST(ExpiryTest, ACommandGivenAgainIsTheSamePush) {
  const FileIdentity file{"/data/a.pt", 1000, 1};
  ASSERT_OK_AND_ASSIGN(const v1::PushHeader first, Header({"--expire", "36h"}));
  ASSERT_OK_AND_ASSIGN(const v1::PushHeader again, Header({"--expire", "36h"}, kNow + absl::Minutes(30)));
  EXPECT_EQ(UploadIdFor(first, file), UploadIdFor(again, file));
}

TEST(ExpiryTest, ADurationThatSeveralCommandsWouldCountFromTheirOwnNowIsRefused) {
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--request-id", "7b6a2f0e-5a0e-4b53-9d8c-2f7f3a1c0b11"},
        std::vector<std::string>{"--upload", "step-1", "--part", "0/2"}}) {
    std::vector<std::string> words = {"--expire", "36h"};
    words.insert(words.end(), more.begin(), more.end());
    EXPECT_THAT(Header(words), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("give --expire a time"))) << more[0];
    words[1] = "2027-01-31T12:00:00Z";
    EXPECT_OK(Header(words));
  }
}

}  // namespace
}  // namespace sconce::cli
