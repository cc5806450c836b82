#include "storage/repository/checkpoint_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::repository {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Checkpoint Version7() {
  Checkpoint c;
  c.version = 7;
  c.step = 1000;
  c.metrics = {{"loss", 0.25}, {"val/top 1", -3}, {"odd", std::nan("")}, {"a.b", 1}};
  c.labels = {{"stage", "final"}, {"path", "a (b)"}, {"k8s.io/name:x", "q\"uote"}, {"empty", ""}};
  c.create_time = absl::FromUnixSeconds(1'767'225'600);  // 2026-01-01T00:00:00Z
  c.pinned = true;
  c.aliases = {"prod"};
  return c;
}

bool Takes(const std::string& text, const Checkpoint& checkpoint = Version7()) {
  const auto filter = ParseCheckpointFilter(text);
  EXPECT_OK(filter) << text;
  return filter.ok() && Matches(*filter, checkpoint);
}

// "(a AND (b OR c))", for the shape of the tree.
std::string Shape(const FilterNode& node) {
  std::string joined;
  switch (node.kind) {
    case FilterNode::Kind::kComparison:
      return node.comparison.name;
    case FilterNode::Kind::kNot:
      return absl::StrCat("!", Shape(node.children[0]));
    default:
      for (const FilterNode& child : node.children) {
        if (!joined.empty()) absl::StrAppend(&joined, node.kind == FilterNode::Kind::kAnd ? " AND " : " OR ");
        absl::StrAppend(&joined, Shape(child));
      }
      return absl::StrCat("(", joined, ")");
  }
}
std::string ShapeOf(const std::string& text) {
  const auto filter = ParseCheckpointFilter(text);
  EXPECT_OK(filter) << text;
  return filter.ok() ? Shape(*filter) : "";
}

TEST(CheckpointFilterTest, OrBindsTighterThanAndAndNotTighterThanBoth) {
  EXPECT_EQ(ShapeOf("labels:a AND labels:b OR labels:c"), "(a AND (b OR c))");
  EXPECT_EQ(ShapeOf("labels:a OR labels:b AND labels:c OR labels:d"), "((a OR b) AND (c OR d))");
  EXPECT_EQ(ShapeOf("(labels:a AND labels:b) OR labels:c"), "((a AND b) OR c)");
  EXPECT_EQ(ShapeOf("NOT labels:a OR labels:b"), "(!a OR b)");
  EXPECT_EQ(ShapeOf("-labels:a AND NOT(labels:b AND -(labels:c))"), "(!a AND !(b AND !c))");
  EXPECT_EQ(ShapeOf("  ( ( labels:a ) )  "), "a");
  EXPECT_EQ(ShapeOf(""), "()");
  EXPECT_EQ(ShapeOf(" \t\n"), "()");
}

TEST(CheckpointFilterTest, EveryFieldIsCompared) {
  for (const char* text : {
           "version = 7",
           "version != 6",
           "version < 8",
           "version<=7",
           "version>6",
           "version >= 7",
           "version:7",
           "version:*",
           "step = 1000",
           "step > -5",
           "step:*",
           "metrics.loss < 0.3",
           "metrics.loss = 2.5e-1",
           "metrics.loss > -inf",
           "metrics.loss:*",
           "metrics:loss",
           "metrics.\"val/top 1\" <= -3",
           "metrics.a.b = 1",
           "metrics:'val/top 1'",
           "labels.stage = final",
           "labels.stage = \"final\"",
           "labels.stage:final",
           "labels.stage >= 'fi'",
           "labels.stage < g",
           "labels:stage",
           "labels.path = 'a (b)'",
           "labels.'k8s.io/name:x' = \"q\\\"uote\"",
           "labels.'k8s.io/name:x' = 'q\"uote'",
           "labels:k8s.io/name:x",
           "labels.empty = ''",
           "state = COMMITTED",
           "state:COMMITTED",
           "state != QUARANTINED",
           "state:*",
           "kind = STATE",
           "kind != OPAQUE",
           "pinned = true",
           "pinned != false",
           "pinned = \"true\"",
           "aliases:prod",
           "create_time = \"2026-01-01T00:00:00Z\"",
           "create_time > 2025-12-31T23:59:59.5Z",
           "create_time = 2026-01-01T01:00:00+01:00",
           "create_time < 9999-01-01T00:00:00Z",
           "metrics.odd != 1",
           "metrics:odd",
           "labels.stage != other",
       }) {
    EXPECT_TRUE(Takes(text)) << text;
    EXPECT_FALSE(Takes(absl::StrCat("NOT ", text))) << text;
  }
}

TEST(CheckpointFilterTest, WhatIsMissingSatisfiesNothingUntilItIsNegated) {
  for (const char* text : {"epoch = 0", "epoch != 0", "epoch:*", "metrics.none != 1", "metrics.none:*", "metrics:none",
                           "labels.none != x", "labels:none", "aliases:none", "metrics.odd = 1", "metrics.odd < inf",
                           "metrics.odd >= -inf", "labels.stage = '*'", "labels.stage:'*'", "labels.stage = fina*"}) {
    EXPECT_FALSE(Takes(text)) << text;
    EXPECT_TRUE(Takes(absl::StrCat("-", text))) << text;
  }
}

TEST(CheckpointFilterTest, ErrorsSayWhereAndWhatIsAllowed) {
  const auto fails = [](const std::string& text, int position, const std::string& what) {
    const auto filter = ParseCheckpointFilter(text);
    EXPECT_THAT(filter, FailsWith(Reason::FILTER_INVALID,
                                  AllOf(HasSubstr(absl::StrCat("at byte ", position, ":")), HasSubstr(what))))
        << text;
    const auto detail = GetErrorDetail(filter.status());
    ASSERT_TRUE(detail);
    EXPECT_THAT(detail->metadata, ::testing::Contains(::testing::Pair("position", absl::StrCat(position))));
  };
  fails("losss < 1", 1, "unknown field \"losss\"; the fields are version, epoch");
  fails("step = 1 AND foo.bar = 2", 14, "unknown field \"foo.bar\"");
  fails("version.x = 2", 1, "unknown field \"version.x\"");
  fails("step", 5, "expected one of = != < <= > >= :");
  fails("step ~ 5", 6, "expected one of");
  fails("step =", 7, "expected a value");
  fails("step = AND", 8, "\"AND\" is not a whole number");
  fails("step = 1.5", 8, "\"1.5\" is not a whole number");
  fails("step = 9223372036854775808", 8, "not a whole number");
  fails("metrics.loss < x", 16, "\"x\" is not a number");
  fails("metrics.loss = nan", 16, "NaN equals nothing");
  fails("create_time > yesterday", 15, "2026-01-01T00:00:00Z");
  fails("state = committed", 9, "COMMITTED or QUARANTINED");
  fails("state < COMMITTED", 7, "takes = and !=");
  fails("pinned = yes", 10, "false or true");
  fails("labels = x", 8, "labels takes only a colon: labels:NAME; one of them is labels.NAME");
  fails("aliases.prod = 1", 1, "write aliases:prod");
  fails("aliases = prod", 9, "takes only a colon");
  fails("step = 1 step = 2", 10, "expected AND, OR");
  fails("step = 1 and step = 2", 10, "expected AND, OR");
  fails("step = 1 AND", 13, "expected a comparison");
  fails("step = 1 OR )", 13, "expected a comparison");
  fails("(step = 1", 1, "not closed");
  fails("step = 1)", 9, "was not opened");
  fails("labels.a = 'x", 12, "not closed");
  fails("labels.'a = x", 1, "a quote is not closed");
  fails("labels.a = x y", 14, "expected AND, OR");
  fails("NOT", 4, "expected a comparison");
  fails("()", 2, "expected a comparison");
}

TEST(CheckpointFilterTest, LengthDepthAndNumberAreBounded) {
  const auto nested = [](int depth) {
    return absl::StrCat(std::string(depth, '('), "step=1", std::string(depth, ')'));
  };
  EXPECT_OK(ParseCheckpointFilter(nested(kMaxFilterDepth)));
  EXPECT_THAT(ParseCheckpointFilter(nested(kMaxFilterDepth + 1)),
              FailsWith(Reason::FILTER_INVALID, AllOf(HasSubstr("more than 32"), HasSubstr("byte 33"))));
  EXPECT_OK(ParseCheckpointFilter(absl::StrCat(nested(32), " AND ", nested(32))));
  std::string many = "step=1";
  for (int i = 1; i < kMaxFilterComparisons; ++i) many += " OR step=1";
  EXPECT_OK(ParseCheckpointFilter(many));
  EXPECT_THAT(ParseCheckpointFilter(many + " OR step=1"),
              FailsWith(Reason::FILTER_INVALID, HasSubstr("more than 100 comparisons")));
  const std::string longest = absl::StrCat("labels.a=", std::string(kMaxFilterBytes - 9, 'x'));
  EXPECT_OK(ParseCheckpointFilter(longest));
  EXPECT_THAT(ParseCheckpointFilter(longest + "x"), FailsWith(Reason::FILTER_INVALID, HasSubstr("at most 4096")));
}

TEST(CheckpointOrderTest, OneFieldAndPerhapsDesc) {
  const auto order = [](const std::string& text) {
    const auto parsed = ParseCheckpointOrder(text);
    EXPECT_OK(parsed) << text;
    return parsed.value_or(CheckpointOrder());
  };
  EXPECT_TRUE(order("").descending);
  EXPECT_FALSE(order("version").descending);
  EXPECT_EQ(order(" version  desc ").field, FilterField::kVersion);
  EXPECT_EQ(order("create_time desc").field, FilterField::kCreateTime);
  EXPECT_EQ(order("epoch").field, FilterField::kEpoch);
  EXPECT_TRUE(order("step desc").descending);
  EXPECT_EQ(order("metrics.val/loss").metric, "val/loss");
  EXPECT_EQ(order("metrics.\"top 1\" desc").metric, "top 1");
  EXPECT_TRUE(order("metrics.\"top 1\" desc").descending);
  for (const char* text :
       {"loss", "metrics", "metrics.", "metrics:x", "labels.a", "aliases", "state", "pinned", "kind", "version asc",
        "version descending", "version, step", "version desc x", "desc", "metrics.'x", "version.x", "-version"}) {
    EXPECT_THAT(ParseCheckpointOrder(text),
                FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("version, create_time, epoch, step or metrics.NAME")))
        << text;
  }
}

}  // namespace
}  // namespace sconce::repository
