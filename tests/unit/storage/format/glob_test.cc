#include "storage/format/glob.h"

#include <random>

#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

bool Matches(const std::string& pattern, const std::string& path) {
  const auto glob = Glob::Compile(pattern);
  EXPECT_OK(glob) << pattern;
  return glob.ok() && glob->Matches(path);
}

TEST(GlobTest, StarStaysInItsSegment) {
  EXPECT_TRUE(Matches("/model/*.weight", "/model/conv1.weight"));
  EXPECT_TRUE(Matches("/model/*.weight", "/model/.weight"));
  EXPECT_FALSE(Matches("/model/*.weight", "/model/conv1.bias"));
  EXPECT_FALSE(Matches("/model/*", "/model/a/b"));
  EXPECT_FALSE(Matches("/model/*", "/model"));
  EXPECT_TRUE(Matches("/*/a", "/x/a"));
  EXPECT_FALSE(Matches("/*/a", "/x/y/a"));
  EXPECT_TRUE(Matches("/model/*", "/model/"));
}

TEST(GlobTest, DoubleStarCrossesSegments) {
  EXPECT_TRUE(Matches("/model/**", "/model/a/b/c"));
  EXPECT_FALSE(Matches("/model/**", "/model"));
  EXPECT_FALSE(Matches("/model/**", "/model2/a"));
  EXPECT_TRUE(Matches("**",
                      ""
                      "/"));
  EXPECT_TRUE(Matches("/a**z", "/a/b/z"));
  EXPECT_TRUE(Matches("**.weight", "/model/conv1.weight"));
  EXPECT_TRUE(Matches("/a/***", "/a/b/c"));
}

TEST(GlobTest, DoubleStarBetweenSlashesMayBeNothing) {
  EXPECT_TRUE(Matches("/**/weight", "/weight"));
  EXPECT_TRUE(Matches("/**/weight", "/a/b/weight"));
  EXPECT_TRUE(Matches("**/weight", "/a/weight"));
  EXPECT_FALSE(Matches("/**/weight", "/a/bweight"));
  EXPECT_TRUE(Matches("/a/**/b", "/a/b"));
  EXPECT_TRUE(Matches("/a/**/b", "/a/x/y/b"));
  EXPECT_FALSE(Matches("/a/**/b", "/ab"));
  EXPECT_FALSE(Matches("/a/**/b", "/a/xb"));
  EXPECT_TRUE(Matches("/a/**/**/b", "/a/b"));
  EXPECT_TRUE(Matches("/*/**/b", "/a/b"));
  EXPECT_TRUE(Matches("/**/a/**/b", "/a/a/b/b"));
  EXPECT_TRUE(Matches("/[a]/**/b", "/a/x/b"));
}

TEST(GlobTest, OneCharacterAndSets) {
  EXPECT_TRUE(Matches("/layer?", "/layer1"));
  EXPECT_FALSE(Matches("/layer?", "/layer"));
  EXPECT_FALSE(Matches("/a?b", "/a/b"));
  EXPECT_TRUE(Matches("/?", "/\xC3\xA9"));
  EXPECT_TRUE(Matches("/?", "/\xFF"));
  EXPECT_TRUE(Matches("/l[0-3a]", "/l2"));
  EXPECT_TRUE(Matches("/l[0-3a]", "/la"));
  EXPECT_FALSE(Matches("/l[0-3a]", "/l4"));
  EXPECT_TRUE(Matches("/l[!0-3]", "/l4"));
  EXPECT_FALSE(Matches("/l[^0-3]", "/l1"));
  EXPECT_FALSE(Matches("/l[!a]b", "/l/b"));
  EXPECT_TRUE(Matches("/[[]*[]]", "/[x]"));
  EXPECT_TRUE(Matches("/[]x]", "/]"));
  EXPECT_TRUE(Matches("/[a-]", "/-"));
  EXPECT_TRUE(Matches("/[\xC3\xA0-\xC3\xBF]", "/\xC3\xA9"));
}

TEST(GlobTest, WithoutWildcardsItIsThatPathAndWhatIsBelow) {
  const auto glob = *Glob::Compile("model/conv");
  EXPECT_FALSE(glob.has_wildcards());
  EXPECT_EQ(glob.pattern(), "/model/conv");
  EXPECT_TRUE(glob.Matches("/model/conv"));
  EXPECT_FALSE(glob.Matches("/model/conv/0"));
  EXPECT_TRUE(glob.MatchesOrIsAbove("/model/conv"));
  EXPECT_TRUE(glob.MatchesOrIsAbove("/model/conv/0"));
  EXPECT_FALSE(glob.MatchesOrIsAbove("/model/conv1"));
  EXPECT_FALSE(glob.MatchesOrIsAbove("/model"));
  EXPECT_TRUE(Glob::Compile("")->MatchesOrIsAbove("/anything"));
  EXPECT_FALSE(Glob::Compile("/a/*")->MatchesOrIsAbove("/a/b/c"));
}

TEST(GlobTest, RefusesWhatItCannotRead) {
  EXPECT_THAT(Glob::Compile("/a["), FailsWith(Reason::PATTERN_INVALID, HasSubstr("\"[\" without")));
  EXPECT_THAT(Glob::Compile("/a[]"), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(Glob::Compile("/a[!]"), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(Glob::Compile("/a[z-a]"), FailsWith(Reason::PATTERN_INVALID, HasSubstr("backwards")));
  EXPECT_THAT(Glob::Compile(std::string(5000, 'a')), FailsWith(Reason::PATTERN_INVALID));
}

// A matcher that goes back would not end before ctest's limit, nor ever.
TEST(GlobTest, ManyStarsTakeNoMoreThanLengthTimesSize) {
  std::string pattern = "/";
  for (int i = 0; i < 400; ++i) pattern += "*a**[ab]?";
  const auto glob = *Glob::Compile(pattern + "x");
  const std::string path = "/" + std::string(10'000, 'a');
  EXPECT_FALSE(glob.Matches(path));
}

// The plainest matcher there is, to hold the compiled one against.
bool Naive(const std::string& pattern, size_t p, const std::string& path, size_t s) {
  if (p == pattern.size()) return s == path.size();
  if (pattern.compare(p, 4, "/**/") == 0) {
    if (s >= path.size() || path[s] != '/') return false;
    for (size_t end = s; end < path.size(); ++end) {
      if (path[end] == '/' && Naive(pattern, p + 4, path, end + 1)) return true;
    }
    return false;
  }
  if (pattern[p] == '*') {
    const bool crosses = pattern.compare(p, 2, "**") == 0;
    for (size_t end = s; end <= path.size(); ++end) {
      if (Naive(pattern, p + (crosses ? 2 : 1), path, end)) return true;
      if (end < path.size() && path[end] == '/' && !crosses) return false;
    }
    return false;
  }
  if (s >= path.size()) return false;
  if (pattern[p] == '?') return path[s] != '/' && Naive(pattern, p + 1, path, s + 1);
  return pattern[p] == path[s] && Naive(pattern, p + 1, path, s + 1);
}

TEST(GlobTest, AgreesWithThePlainestMatcher) {
  std::mt19937 random(3);
  const std::vector<std::string> pieces = {"a", "b", "/", "*", "**", "?", "/**/", "/a"};
  int matched = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string pattern = "/";
    std::string path = "/";
    for (auto n = random() % 6; n > 0; --n) pattern += pieces[random() % pieces.size()];
    for (auto n = random() % 8; n > 0; --n) path += "ab/"[random() % 3];
    if (pattern.find("***") != std::string::npos || pattern.find("/**/**/") != std::string::npos) continue;
    const bool expected = Naive(pattern, 0, path, 0);
    matched += expected ? 1 : 0;
    ASSERT_EQ(Matches(pattern, path), expected) << pattern << " on " << path;
  }
  EXPECT_GT(matched, 5000);
}

}  // namespace
}  // namespace sconce::format
