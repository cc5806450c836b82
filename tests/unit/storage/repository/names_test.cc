#include "storage/repository/names.h"

#include "tests/support/status_matchers.h"

namespace sconce::repository {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(NamesTest, IdsOfTheGrammarAreAccepted) {
  for (const std::string& id : {std::string("a"), std::string("ResNet-50_v1.5"), std::string("0"),
                                std::string(128, 'x'), std::string("latest"), std::string("a..b")}) {
    EXPECT_OK(ValidateId("run", id)) << id;
  }
}

TEST(NamesTest, OtherIdsAreRefusedNamingFieldAndRule) {
  EXPECT_THAT(ValidateId("run", ""), FailsWith(Reason::NAME_INVALID, AllOf(HasSubstr("run"), HasSubstr("empty"))));
  EXPECT_THAT(ValidateId("project", std::string(129, 'x')),
              FailsWith(Reason::NAME_INVALID, HasSubstr("longer than 128")));
  EXPECT_THAT(ValidateId("run", ".hidden"), FailsWith(Reason::NAME_INVALID, HasSubstr("start")));
  for (const std::string& id :
       {std::string("/../"), std::string(".."), std::string("a/b"), std::string("a b"), std::string("a\0b", 3),
        std::string("a\n"), std::string("\xc3\xa4"), std::string("a@b"), std::string("-x")}) {
    EXPECT_THAT(ValidateId("run", id), FailsWith(Reason::NAME_INVALID)) << id;
  }
}

TEST(NamesTest, AliasesAreLowerCaseAndNotReserved) {
  for (const std::string& alias : {std::string("stable"), std::string("a"), std::string("v1-rc"), std::string("v"),
                                   std::string("canary_2"), std::string(63, 'x')}) {
    EXPECT_OK(ValidateAlias(alias)) << alias;
  }
  for (const std::string& alias :
       {std::string(""), std::string("latest"), std::string("best"), std::string("v12"), std::string("12"),
        std::string("Stable"), std::string("a.b"), std::string("-a"), std::string(64, 'x'), std::string("/../")}) {
    EXPECT_THAT(ValidateAlias(alias), FailsWith(Reason::NAME_INVALID)) << alias;
  }
}

TEST(NamesTest, SelectorsAreVersionsReservedWordsOrAliases) {
  ASSERT_OK_AND_ASSIGN(const Selector version, ParseSelector("12"));
  EXPECT_EQ(version.kind, Selector::Kind::kVersion);
  EXPECT_EQ(version.version, 12);
  ASSERT_OK_AND_ASSIGN(const Selector latest, ParseSelector("latest"));
  EXPECT_EQ(latest.kind, Selector::Kind::kLatest);
  ASSERT_OK_AND_ASSIGN(const Selector best, ParseSelector("best"));
  EXPECT_EQ(best.kind, Selector::Kind::kBest);
  ASSERT_OK_AND_ASSIGN(const Selector alias, ParseSelector("stable"));
  EXPECT_EQ(alias.kind, Selector::Kind::kAlias);
  EXPECT_EQ(alias.alias, "stable");
  for (const std::string& text :
       {std::string(""), std::string("0"), std::string("-1"), std::string("007"), std::string("9223372036854775808"),
        std::string("v3"), std::string("Best"), std::string("1.5"), std::string("/../")}) {
    EXPECT_THAT(ParseSelector(text), FailsWith(Reason::SELECTOR_INVALID)) << text;
  }
}

TEST(NamesTest, LabelsAndMetricNamesAreShortPlainUtf8) {
  EXPECT_OK(ValidateLabels({{"team", "vision"}, {"k\xc3\xa4se", "\xf0\x9f\xa7\x80"}, {"empty", ""}}));
  EXPECT_OK(ValidateMetrics({{"val/acc@5", 1}}));
  const std::vector<std::string> bad = {
      "",     std::string(129, 'k'), "a\nb", "\x7f", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82",
      "a\xc3"};
  for (const std::string& key : bad) {
    EXPECT_THAT(ValidateLabels({{key, "x"}}), FailsWith(Reason::ARGUMENT_INVALID)) << Quoted(key);
    EXPECT_THAT(ValidateMetrics({{key, 1}}), FailsWith(Reason::ARGUMENT_INVALID)) << Quoted(key);
  }
  EXPECT_THAT(ValidateLabels({{"k", std::string(1025, 'v')}}), FailsWith(Reason::ARGUMENT_INVALID));
  Labels many;
  for (int i = 0; i < 65; ++i) many[std::to_string(i)] = "";
  EXPECT_THAT(ValidateLabels(many), FailsWith(Reason::ARGUMENT_INVALID));
}

}  // namespace
}  // namespace sconce::repository
