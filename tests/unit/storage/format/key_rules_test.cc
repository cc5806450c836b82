#include "storage/format/key_rules.h"

#include <random>

#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Apply(const KeyRules& rules, const std::vector<std::string>& keys) {
  absl::StatusOr<std::vector<std::string>> result = ApplyKeyRules(rules, keys);
  EXPECT_OK(result);
  return result.ok() ? *std::move(result) : std::vector<std::string>();
}

// What one rename makes of one key.
std::string Rename(const std::string& from, const std::string& to, const std::string& key) {
  const std::vector<std::string> keys = Apply({{}, "", {{from, to}}}, {key});
  return keys.size() == 1 ? keys[0] : "(error)";
}

absl::Status Refused(const KeyRules& rules, const std::vector<std::string>& keys = {"a"}) {
  return ApplyKeyRules(rules, keys).status();
}

TEST(KeyRulesTest, NoneLeaveKeysAsTheyAre) {
  EXPECT_THAT(Apply({}, {"b", "a.x"}), ElementsAre("b", "a.x"));
  EXPECT_TRUE(KeyRules().empty());
}

TEST(KeyRulesTest, APrefixIsTakenOffEveryKeyThatHasIt) {
  EXPECT_THAT(Apply({{"module."}, "", {}}, {"module.conv.weight", "other.weight", "module"}),
              ElementsAre("conv.weight", "other.weight", "module"));
}

TEST(KeyRulesTest, PrefixesComeOffOneAfterTheOther) {
  EXPECT_THAT(Apply({{"module.", "_orig_mod."}, "", {}}, {"module._orig_mod.w", "_orig_mod.module.v", "module.u"}),
              ElementsAre("w", "module.v", "u"));
}

TEST(KeyRulesTest, AKeyIsNeverTakenOffWhole) {
  EXPECT_THAT(Apply({{"module."}, "", {}}, {"module."}), ElementsAre("module."));
}

TEST(KeyRulesTest, APrefixIsPutOnAfterwardsAndThenRenamesRun) {
  EXPECT_THAT(Apply({{"module."}, "net.", {{"net.a", "b"}}}, {"module.a.w", "c.w"}), ElementsAre("b.w", "net.c.w"));
}

TEST(KeyRulesTest, RenamesSeeWhatTheOnesBeforeMade) {
  EXPECT_THAT(Apply({{}, "", {{"a", "b"}, {"b", "c"}, {"c.y", "d"}}}, {"a.x", "a.y"}), ElementsAre("c.x", "d"));
}

TEST(KeyRulesTest, APatternWithoutWildcardsIsTheKeyAndAllBelowIt) {
  EXPECT_EQ(Rename("encoder", "backbone", "encoder"), "backbone");
  EXPECT_EQ(Rename("encoder", "backbone", "encoder.0.weight"), "backbone.0.weight");
  EXPECT_EQ(Rename("encoder", "backbone", "encoder2.weight"), "encoder2.weight");
  EXPECT_EQ(Rename("encoder", "backbone", "my.encoder.weight"), "my.encoder.weight");
}

TEST(KeyRulesTest, StarsStandForWhatTheyMatched) {
  EXPECT_EQ(Rename("*.gamma", "*.weight", "bn.1.gamma"), "bn.1.weight");
  EXPECT_EQ(Rename("layers.*.attn.*", "blocks.*.mixer.*", "layers.3.attn.q.weight"), "blocks.3.mixer.q.weight");
  EXPECT_EQ(Rename("*", "model.*", "w"), "model.w");
  EXPECT_EQ(Rename("a*b", "x", "ab"), "x");
  EXPECT_EQ(Rename("a**b", "*", "a12b"), "12") << "two stars in a row are one";
}

TEST(KeyRulesTest, StarsTakeAsLittleAsTheyCanFromTheLeft) {
  EXPECT_EQ(Rename("*.attn.*", "*|*", "l.attn.attn.w"), "l|attn.w");
  EXPECT_EQ(Rename("*aab", "*", "aaaab"), "aa") << "what stands at the end is looked for at the end";
  EXPECT_EQ(Rename("*x*x*", "*|*|*", "axbxcx"), "a|b|cx");
}

TEST(KeyRulesTest, ThePatternCoversTheWholeKey) {
  EXPECT_EQ(Rename("a.*.c", "x", "a.b.c.d"), "a.b.c.d");
  EXPECT_EQ(Rename("?.w", "x", "ab.w"), "ab.w");
  EXPECT_EQ(Rename("ab*ba", "x", "aba"), "aba") << "the two ends must not overlap";
}

TEST(KeyRulesTest, QuestionMarksAndSetsAreWildcardsOfOneCharacter) {
  EXPECT_EQ(Rename("layer?.[wb]", "l.*.*", "layer7.w"), "l.7.w");
  EXPECT_EQ(Rename("layer[0-3].*", "low*.*", "layer2.bias"), "low2.bias");
  EXPECT_EQ(Rename("layer[!0-3].*", "high*.*", "layer4.bias"), "high4.bias");
  EXPECT_EQ(Rename("layer[!0-3].*", "high*.*", "layer3.bias"), "layer3.bias");
}

TEST(KeyRulesTest, AStarInBracketsIsAStar) {
  EXPECT_EQ(Rename("a[*]b.*", "x[*].*", "a*b.w"), "x*.w");
  EXPECT_EQ(Rename("a[*]b.*", "x[*].*", "a1b.w"), "a1b.w");
}

TEST(KeyRulesTest, ACharacterIsACodePoint) {
  EXPECT_EQ(Rename("?.w", "*.v", "\xc3\xa9.w"), "\xc3\xa9.v");
  EXPECT_EQ(Rename("[\xc3\xa0-\xc3\xbf].*", "*", "\xc3\xa9.w"), "\xc3\xa9");
  EXPECT_EQ(Rename("*?", "*", "a\xc3\xa9"), "a");
}

TEST(KeyRulesTest, TwoKeysThatBecomeOneAreAnErrorNamingBoth) {
  const absl::Status status = Refused({{"module."}, "", {}}, {"w", "module.w"});
  EXPECT_THAT(status, FailsWith(Reason::RENAME_COLLISION));
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"w\" and \"module.w\" both become \"w\""));
}

TEST(KeyRulesTest, RefusesPatternsThatCannotBeRead) {
  EXPECT_THAT(Refused({{}, "", {{"", "x"}}}), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(Refused({{}, "", {{"[a", "x"}}}), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(Refused({{}, "", {{"[b-a]", "x"}}}), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(Refused({{}, "", {{"a.*", "*.*"}}}), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(Refused({{}, "", {{"a", "*"}}}), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(CheckKeyRules({{}, "", {{"a", "*"}}}), FailsWith(Reason::PATTERN_INVALID));
}

TEST(KeyRulesTest, LimitsAreHeld) {
  EXPECT_THAT(CheckKeyRules({std::vector<std::string>(17, "a."), "", {}}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  EXPECT_THAT(CheckKeyRules({{}, "", std::vector<RenameRule>(101, {"a", "b"})}),
              FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  EXPECT_THAT(CheckKeyRules({{}, std::string(4097, 'a'), {}}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  EXPECT_THAT(CheckKeyRules({{}, "", {{std::string(4097, 'a'), "b"}}}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  const std::string long_text(4096, 'x');
  const std::vector<RenameRule> growing(100, {"*", "*" + long_text.substr(1)});
  EXPECT_THAT(Refused({{}, "", growing}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED)) << "64 KiB of key are the most";
}

// The plainest matcher there is, to judge the real one: all ways to split, the shortest first, from the left.
bool MatchesPlainly(const std::string& pattern, size_t p, const std::string& key, size_t k,
                    std::vector<std::string>& stars) {
  if (p == pattern.size()) return k == key.size();
  if (pattern[p] != '*') {
    return k < key.size() && pattern[p] == key[k] && MatchesPlainly(pattern, p + 1, key, k + 1, stars);
  }
  const bool last = pattern.find('*', p + 1) == std::string::npos;
  for (size_t end = last ? key.size() : k; last ? end + 1 > k : end <= key.size(); last ? --end : ++end) {
    stars.push_back(key.substr(k, end - k));
    if (MatchesPlainly(pattern, p + 1, key, end, stars)) return true;
    stars.pop_back();
    if (last && end == k) break;
  }
  return false;
}

TEST(KeyRulesTest, MatchesAsThePlainestMatcherDoes) {
  std::mt19937 random(7);
  const auto word = [&](const std::string& letters, size_t longest) {
    std::string text(random() % longest + 1, ' ');
    for (char& c : text) c = letters[random() % letters.size()];
    return text;
  };
  int matched = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string pattern = word("ab.*", 6);
    for (size_t at; (at = pattern.find("**")) != std::string::npos;) pattern.erase(at, 1);
    if (pattern.find('*') == std::string::npos) pattern += '*';
    const std::string key = word("ab.", 8);
    std::string to;
    std::string expected = key;
    std::vector<std::string> stars;
    if (MatchesPlainly(pattern, 0, key, 0, stars)) {
      ++matched;
      expected.clear();
      for (const std::string& star : stars) expected += "<" + star + ">";
    }
    for (const char c : pattern) to += c == '*' ? "<*>" : "";
    ASSERT_EQ(Rename(pattern, to, key), expected) << pattern << " on " << key;
  }
  EXPECT_GT(matched, 2000);
}

// What makes backtracking matchers take for ever: many stars, and a text that almost matches.
TEST(KeyRulesTest, HostilePatternsEndSoon) {
  std::string pattern;
  for (int i = 0; i < 1000; ++i) pattern += "*a";
  const std::string key(60'000, 'a');
  EXPECT_EQ(Rename(pattern + "b", "x", key), key);
  EXPECT_EQ(Rename(pattern, "x", key), "x");
  const KeyRules many{{}, "", std::vector<RenameRule>(100, {std::string(2000, '?') + "*b", "x"})};
  EXPECT_THAT(Refused(many, std::vector<std::string>(1000, key)), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST(KeyRulesTest, AHundredThousandKeysAreNothing) {
  std::vector<std::string> keys;
  for (int i = 0; i < 100'000; ++i) keys.push_back("module.layers." + std::to_string(i) + ".attention.weight");
  const std::vector<std::string> renamed =
      Apply({{"module."}, "net.", {{"net.layers.*.attention.*", "blocks.*.mixer.*"}}}, keys);
  ASSERT_EQ(renamed.size(), keys.size());
  EXPECT_EQ(renamed[99'999], "blocks.99999.mixer.weight");
}

}  // namespace
}  // namespace sconce::format
