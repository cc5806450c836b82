#include "proto/wire/resource_name.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::wire {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ResourceNameTest, ParseOfFormatIsTheIdentity) {
  ASSERT_OK_AND_ASSIGN(const RunRef run, ParseRun(FormatRun("vision", "resnet-50.v1_a")));
  EXPECT_EQ(run.project, "vision");
  EXPECT_EQ(run.run, "resnet-50.v1_a");
  ASSERT_OK_AND_ASSIGN(const ChildRef checkpoint, ParseCheckpoint(FormatCheckpoint("p", "r", "12")));
  EXPECT_EQ(checkpoint.run.project, "p");
  EXPECT_EQ(checkpoint.run.run, "r");
  EXPECT_EQ(checkpoint.id, "12");
  ASSERT_OK_AND_ASSIGN(const ChildRef module, ParseModule(FormatModule("p", "r", "Net.pt")));
  EXPECT_EQ(module.id, "Net.pt");
  ASSERT_OK_AND_ASSIGN(const ChildRef alias, ParseAlias(FormatAlias("p", "r", "stable")));
  EXPECT_EQ(alias.id, "stable");
  ASSERT_OK_AND_ASSIGN(const ChildRef upload, ParseUpload(FormatUpload("p", "r", "push-7")));
  EXPECT_EQ(upload.id, "push-7");
  EXPECT_EQ(ParseModel(FormatModel("m")).value(), "m");
  EXPECT_EQ(ParseProject(FormatProject("p")).value(), "p");
}

TEST(ResourceNameTest, FormattedNamesAreThoseOfTheDesign) {
  EXPECT_EQ(FormatCheckpoint("p", "r", "best"), "projects/p/runs/r/checkpoints/best");
  EXPECT_EQ(FormatModule("p", "r", "m"), "projects/p/runs/r/modules/m");
  EXPECT_EQ(FormatAlias("p", "r", "a"), "projects/p/runs/r/aliases/a");
  EXPECT_EQ(FormatUpload("p", "r", "u"), "projects/p/runs/r/uploads/u");
  EXPECT_EQ(FormatModel("m"), "models/m");
}

TEST(ResourceNameTest, ADashMeansAllProjectsInListsOnly) {
  EXPECT_EQ(ParseProjectFilter("").value(), "");
  EXPECT_EQ(ParseProjectFilter("projects/-").value(), "");
  EXPECT_EQ(ParseProjectFilter("projects/p").value(), "p");
  EXPECT_EQ(ParseProject("").value(), "default");
  EXPECT_THAT(ParseProject("projects/-"), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(ParseRun("projects/-/runs/r"), FailsWith(Reason::NAME_INVALID, HasSubstr("project")));
}

TEST(ResourceNameTest, AWrongShapeIsToldWithTheRightOne) {
  for (const char* name : {"", "/", "projects/p", "projects/p/runs", "projects/p/runs/r/", "runs/r/projects/p",
                           "projects/p/runs/r/checkpoints/1", "/projects/p/runs/r", "Projects/p/runs/r"}) {
    EXPECT_THAT(ParseRun(name), FailsWith(Reason::NAME_INVALID, HasSubstr("projects/{project}/runs/{run}"))) << name;
  }
}

TEST(ResourceNameTest, AWrongIdIsToldWithItsPartAndTheRule) {
  EXPECT_THAT(ParseRun("projects/../runs/r"),
              FailsWith(Reason::NAME_INVALID, AllOf(HasSubstr("project id \"..\""), HasSubstr("letter or digit"))));
  EXPECT_THAT(ParseRun("projects/p/runs/a b"), FailsWith(Reason::NAME_INVALID, HasSubstr("run id \"a b\"")));
  EXPECT_THAT(ParseModule("projects/p/runs/r/modules/.m"), FailsWith(Reason::NAME_INVALID, HasSubstr("module id")));
  EXPECT_THAT(ParseUpload("projects/p/runs/r/uploads/"), FailsWith(Reason::NAME_INVALID, HasSubstr("upload id")));
  EXPECT_THAT(ParseModel("models/"), FailsWith(Reason::NAME_INVALID, HasSubstr("model id")));
  const absl::Status status = ParseRun("projects/p/runs/a b").status();
  EXPECT_EQ(GetErrorDetail(status)->metadata[0].second, "run");
}

TEST(ResourceNameTest, IdsHaveTheirLimits) {
  EXPECT_OK(CheckId("run", "a"));
  EXPECT_OK(CheckId("run", "9" + std::string(127, 'x')));
  EXPECT_THAT(CheckId("run", std::string(129, 'x')), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(CheckId("run", ""), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(CheckId("run", "-a"), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(CheckId("run", "\xC3\xA4"), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(CheckId("run", std::string("a\0b", 3)), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(CheckId("run", "a/b"), FailsWith(Reason::NAME_INVALID));
}

TEST(ResourceNameTest, AliasesMayNotLookLikeSelectorsThatMeanSomethingElse) {
  EXPECT_OK(CheckAliasId("stable"));
  EXPECT_OK(CheckAliasId("v7b"));
  EXPECT_OK(CheckAliasId("v"));
  EXPECT_OK(CheckAliasId(std::string(63, 'a')));
  for (const char* alias : {"latest", "best", "7", "v7", "Stable", "a.b", "", "_a"}) {
    EXPECT_THAT(CheckAliasId(alias), FailsWith(Reason::NAME_INVALID)) << alias;
  }
  EXPECT_THAT(CheckAliasId(std::string(64, 'a')), FailsWith(Reason::NAME_INVALID));
}

TEST(ResourceNameTest, SelectorsAreNumbersReservedWordsAndAliases) {
  for (const char* selector : {"1", "9223372036854775807", "latest", "best", "stable"})
    EXPECT_OK(CheckSelector(selector));
  for (const char* selector : {"", "0", "01", "-1", "9223372036854775808", "1.5", "Best", "a b", "..", "1 "}) {
    EXPECT_THAT(CheckSelector(selector), FailsWith(Reason::SELECTOR_INVALID)) << selector;
  }
  EXPECT_THAT(CheckSelector("v7"), FailsWith(Reason::SELECTOR_INVALID, HasSubstr("\"7\"")));
  EXPECT_THAT(ParseCheckpoint("projects/p/runs/r/checkpoints/0"), FailsWith(Reason::SELECTOR_INVALID));
}

TEST(ResourceNameTest, ShortReferences) {
  struct Case {
    const char* text;
    const char* project;
    const char* run;
    const char* selector;
  };
  for (const Case& c :
       {Case{"resnet50", "default", "resnet50", ""}, Case{"resnet50@best", "default", "resnet50", "best"},
        Case{"vision/resnet50@12", "vision", "resnet50", "12"}, Case{"vision/r", "vision", "r", ""},
        Case{"projects/p/runs/r", "p", "r", ""}, Case{"projects/p/runs/r/checkpoints/latest", "p", "r", "latest"}}) {
    ASSERT_OK_AND_ASSIGN(const ShortRef ref, ParseShortRef(c.text));
    EXPECT_EQ(ref.run.project, c.project) << c.text;
    EXPECT_EQ(ref.run.run, c.run) << c.text;
    EXPECT_EQ(ref.selector, c.selector) << c.text;
  }
  for (const char* text : {"", "a/b/c", "@best", "a@", "a@@b", "/a", "a/", "a@best@1", "projects/p/runs/r/modules/m"}) {
    EXPECT_FALSE(ParseShortRef(text).ok()) << text;
  }
  EXPECT_THAT(ParseShortRef("a@v7"), FailsWith(Reason::SELECTOR_INVALID));
}

TEST(ResourceNameTest, ShortReferencesLeaveOutWhatIsTheDefault) {
  EXPECT_EQ(FormatShortRef({{"default", "r"}, ""}), "r");
  EXPECT_EQ(FormatShortRef({{"p", "r"}, "best"}), "p/r@best");
}

}  // namespace
}  // namespace sconce::wire
