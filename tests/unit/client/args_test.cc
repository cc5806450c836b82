#include "client/cli/args.h"

#include "tests/support/status_matchers.h"

namespace sconce::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<Option> kOptions = {
    {"output", 'o', "FILE", "where to"}, {"only", 0, "PATTERN", "what", true}, {"force", 'f', "", "really"}};

TEST(ArgsTest, TakesOptionsInEveryForm) {
  ASSERT_OK_AND_ASSIGN(const Args args, ParseArgs(kOptions, {"a", "-o", "x", "--only=/m/*", "--only", "b=c", "-f", "-",
                                                             "--", "--force"}));
  EXPECT_THAT(args.positional(), ElementsAre("a", "-", "--force"));
  EXPECT_EQ(args.Get("output"), "x");
  EXPECT_THAT(args.All("only"), ElementsAre("/m/*", "b=c"));
  EXPECT_TRUE(args.Has("force"));
}

TEST(ArgsTest, RefusesWhatTheCommandDoesNotTake) {
  EXPECT_THAT(ParseArgs(kOptions, {"--ouput", "x"}),
              FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("did you mean --output?")));
  EXPECT_THAT(ParseArgs(kOptions, {"-x"}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("-x")));
  EXPECT_THAT(ParseArgs(kOptions, {"-o"}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("needs a value")));
  EXPECT_THAT(ParseArgs(kOptions, {"--force=1"}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("takes no value")));
  EXPECT_THAT(ParseArgs(kOptions, {"-o", "a", "-o", "b"}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("twice")));
}

TEST(ArgsTest, NumbersAndPairsAreChecked) {
  ASSERT_OK_AND_ASSIGN(const Args args, ParseArgs(kOptions, {"-o", "12x"}));
  EXPECT_THAT(args.GetInt("output"), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("12x")));
  ASSERT_OK_AND_ASSIGN(const auto absent, args.GetInt("only"));
  EXPECT_FALSE(absent.has_value());
  ASSERT_OK_AND_ASSIGN(const auto pair, SplitPair("label", "k=v=w"));
  EXPECT_EQ(pair, std::make_pair(std::string("k"), std::string("v=w")));
  EXPECT_THAT(SplitPair("label", "=v"), FailsWith(Reason::ARGUMENT_INVALID));
}

}  // namespace
}  // namespace sconce::cli
