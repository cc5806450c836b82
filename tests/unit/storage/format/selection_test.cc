#include "storage/format/selection.h"

#include "storage/format/manifest_codec.h"
#include "storage/format/path.h"
#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::vector<std::string> Paths(const Manifest& manifest) {
  std::vector<std::string> paths;
  EXPECT_OK(ForEachPath(manifest, [&](absl::string_view path, NodeIndex) {
    paths.emplace_back(path);
    return true;
  }));
  return paths;
}

Selected Selecting(const Manifest& manifest, const Selection& selection) {
  absl::StatusOr<Selected> selected = Select(manifest, selection);
  EXPECT_OK(selected);
  if (!selected.ok()) return {};
  EXPECT_OK(Validate(selected->manifest));
  EXPECT_EQ(selected->manifest.storages.size(), selected->source.size());
  return *std::move(selected);
}

Selection Include(std::vector<std::string> patterns) {
  return {"", std::move(patterns), {}};
}
Selection Exclude(std::vector<std::string> patterns) {
  return {"", {}, std::move(patterns)};
}

// {epoch, model: OrderedDict{conv.weight, conv.bias, tied}, optimizer: {state: {0: {step, avg}}, groups: [{lr}]}, loss}
Manifest General() {
  ManifestBuilder b;
  const NodeIndex weight = b.Tensor(DType::kFloat32, {1024}, "cuda:0");
  const NodeIndex bias = b.Tensor(DType::kFloat32, {2}, "cuda:0");
  const NodeIndex metadata = b.Dict({{b.Str("_metadata"), b.OrderedDict({{b.Str(""), b.Int(1)}})}});
  const NodeIndex model =
      b.OrderedDict({{b.Str("conv.weight"), weight}, {b.Str("conv.bias"), bias}, {b.Str("tied"), weight}}, metadata);
  const NodeIndex state = b.Dict(
      {{b.Int(0), b.Dict({{b.Str("step"), b.Int(5)}, {b.Str("avg"), b.Tensor(DType::kFloat32, {512}, "cuda:0")}})}});
  const NodeIndex optimizer =
      b.Dict({{b.Str("state"), state}, {b.Str("groups"), b.List({b.Dict({{b.Str("lr"), b.Float(0.1)}})})}});
  b.Dict({{b.Str("epoch"), b.Int(3)},
          {b.Str("model"), model},
          {b.Str("optimizer"), optimizer},
          {b.Str("loss"), b.Float(2)}});
  return b.Build();
}

TEST(SelectionTest, AnEmptyOneIsTheWhole) {
  const Manifest manifest = General();
  const Selected all = Selecting(manifest, {});
  EXPECT_EQ(EncodeManifest(all.manifest), EncodeManifest(manifest));
  EXPECT_THAT(all.source, ElementsAre(0, 1, 2));
  EXPECT_FALSE(all.manifest.derived);
}

TEST(SelectionTest, ARootBecomesTheRoot) {
  const Selected model = Selecting(General(), {"/model", {}, {}});
  EXPECT_THAT(Paths(model.manifest), ElementsAre("", "/conv.weight", "/conv.bias", "/tied"));
  EXPECT_TRUE(model.manifest.derived);
  EXPECT_THAT(model.source, ElementsAre(0, 1));
  const Node& root = model.manifest.nodes.back();
  EXPECT_EQ(root.kind, NodeKind::kOrderedDict);
  EXPECT_EQ(root.children.size(), 7u);  // _metadata is still there
  const Selected weight = Selecting(General(), {"/model/conv.bias", {}, {}});
  EXPECT_EQ(weight.manifest.nodes.size(), 1u);
  EXPECT_THAT(weight.source, ElementsAre(1));
}

TEST(SelectionTest, PatternsApplyUnderTheRoot) {
  const Selected some = Selecting(General(), {"/model", {"/conv.*"}, {"/*.bias"}});
  EXPECT_THAT(Paths(some.manifest), ElementsAre("", "/conv.weight"));
}

TEST(SelectionTest, IncludeDropsOtherTensorsAndKeepsScalars) {
  const Selected some = Selecting(General(), Include({"/model"}));
  EXPECT_THAT(Paths(some.manifest),
              ElementsAre("", "/epoch", "/model", "/model/conv.weight", "/model/conv.bias", "/model/tied", "/optimizer",
                          "/optimizer/state", "/optimizer/state/0", "/optimizer/state/0/step", "/optimizer/groups",
                          "/optimizer/groups/0", "/optimizer/groups/0/lr", "/loss"));
  EXPECT_THAT(some.source, ElementsAre(0, 1));
}

TEST(SelectionTest, ExcludeDropsEverythingBelow) {
  const Selected some = Selecting(General(), Exclude({"/optimizer", "/loss"}));
  EXPECT_THAT(Paths(some.manifest),
              ElementsAre("", "/epoch", "/model", "/model/conv.weight", "/model/conv.bias", "/model/tied"));
  const Selected wild = Selecting(General(), Exclude({"/opt*", "**/conv.*"}));
  EXPECT_THAT(Paths(wild.manifest), ElementsAre("", "/epoch", "/model", "/model/tied", "/loss"));
  EXPECT_THAT(wild.source, ElementsAre(0));
}

TEST(SelectionTest, WildcardsMeanOnlyWhatTheyMatch) {
  // "/*" matches the dict `model`, not what is in it.
  const Selected top = Selecting(General(), Include({"/*"}));
  EXPECT_THAT(top.source, IsEmpty());
  const Selected all = Selecting(General(), Include({"/model/**"}));
  EXPECT_THAT(all.source, ElementsAre(0, 1));
}

TEST(SelectionTest, ContainersThatLoseEverythingGo) {
  ManifestBuilder b;
  b.Dict({{b.Str("a"), b.Dict({{b.Str("x"), b.List({b.Tensor(DType::kInt8, {1})})}})},
          {b.Str("b"), b.Tensor(DType::kInt8, {1})},
          {b.Str("empty"), b.List({})}});
  const Selected some = Selecting(b.manifest(), Include({"/b"}));
  EXPECT_THAT(Paths(some.manifest), ElementsAre("", "/b", "/empty"));
  const Selected none = Selecting(b.manifest(), Exclude({"/**"}));
  EXPECT_THAT(Paths(none.manifest), ElementsAre(""));
}

TEST(SelectionTest, ADroppedListElementBecomesNone) {
  ManifestBuilder b;
  b.List({b.Tensor(DType::kInt8, {1}), b.Tensor(DType::kInt8, {2}), b.Int(1), b.Tensor(DType::kInt8, {3})});
  const Selected some = Selecting(b.manifest(), Include({"/1"}));
  const Manifest& manifest = some.manifest;
  const std::vector<NodeIndex>& children = manifest.nodes.back().children;
  ASSERT_EQ(children.size(), 4u);
  EXPECT_EQ(manifest.nodes[children[0]].kind, NodeKind::kNone);
  EXPECT_EQ(manifest.nodes[children[1]].kind, NodeKind::kTensor);
  EXPECT_EQ(manifest.nodes[children[2]].kind, NodeKind::kInt);
  EXPECT_EQ(manifest.nodes[children[3]].kind, NodeKind::kNone);
}

TEST(SelectionTest, SharingSurvivesWhereTheOutcomeIsTheSame) {
  const Selected some = Selecting(General(), {"/model", {}, {}});
  ASSERT_OK_AND_ASSIGN(const NodeIndex weight, FindPath(some.manifest, "/conv.weight"));
  ASSERT_OK_AND_ASSIGN(const NodeIndex tied, FindPath(some.manifest, "/tied"));
  EXPECT_EQ(weight, tied);

  ManifestBuilder b;
  const NodeIndex shared = b.Dict({{b.Str("w"), b.Tensor(DType::kInt8, {1})}, {b.Str("lr"), b.Int(1)}});
  b.Dict({{b.Str("a"), shared}, {b.Str("b"), shared}, {b.Str("c"), shared}});
  const Selected two = Selecting(b.manifest(), Include({"/a/w", "/b/w"}));
  const auto at = [&](const char* path) { return *FindPath(two.manifest, path); };
  EXPECT_EQ(at("/a"), at("/b"));
  EXPECT_NE(at("/a"), at("/c"));
  EXPECT_EQ(at("/a/lr"), at("/c/lr"));
  EXPECT_THAT(FindPath(two.manifest, "/c/w"), FailsWith(Reason::PATH_NOT_FOUND));
}

TEST(SelectionTest, StoragesKeepTheirOrderAndBareOnesAreRenumbered) {
  ManifestBuilder b;
  const StorageIndex s0 = b.Storage(5000);
  const StorageIndex s1 = b.Storage(5001);
  const StorageIndex s2 = b.Storage(5002);
  Node bare;
  bare.kind = NodeKind::kStorage;
  bare.text = "untyped";
  bare.integer = s1;
  const NodeIndex storage = b.Add(bare);
  b.Dict({{b.Str("z"), b.Tensor(s2, DType::kUInt8, {5002})},
          {b.Str("bare"), storage},
          {b.Str("a"), b.Tensor(s0, DType::kUInt8, {1})}});
  const Selected some = Selecting(b.manifest(), Exclude({"/a"}));
  EXPECT_THAT(some.source, ElementsAre(1, 2));
  ASSERT_OK_AND_ASSIGN(const NodeIndex moved, FindPath(some.manifest, "/bare"));
  EXPECT_EQ(some.manifest.nodes[moved].integer, 0);
  EXPECT_EQ(some.manifest.storages[0].size_bytes, 5001);
}

TEST(SelectionTest, SaysWhichPatternMatchesNothing) {
  EXPECT_THAT(Select(General(), Include({"/model", "/modle/*"})),
              FailsWith(Reason::PATH_NOT_FOUND, HasSubstr("\"/modle/*\" matches nothing")));
  EXPECT_THAT(Select(General(), Include({"/nope", "/model"})),
              FailsWith(Reason::PATH_NOT_FOUND, HasSubstr("\"/nope\"")));
  EXPECT_OK(Select(General(), Exclude({"/nope/**"})));
  EXPECT_OK(Select(General(), Include({"/model/*", "/model/conv.*", "/model/conv.*"})));
  EXPECT_THAT(Select(General(), {"/modle", {}, {}}), FailsWith(Reason::PATH_NOT_FOUND));
  EXPECT_THAT(Select(General(), {"modle", {}, {}}), FailsWith(Reason::PATH_INVALID));
  EXPECT_THAT(Select(General(), Include({"/["})), FailsWith(Reason::PATTERN_INVALID));
}

TEST(SelectionTest, ATreeWithTooManyPathsIsRefused) {
  ManifestBuilder b;
  NodeIndex bomb = b.Int(1);
  for (int i = 0; i < 64; ++i) bomb = b.List({bomb, bomb});
  EXPECT_THAT(Select(b.manifest(), Include({"/0"})), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST(SelectionTest, WhateverIsSelectedIsValidAndKeepsItsPlaces) {
  int dropped = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    RandomManifest random(seed);
    const Manifest manifest = random.Make();
    const std::vector<std::string> paths = Paths(manifest);
    const std::string pattern = paths[static_cast<size_t>(random.Below(static_cast<int>(paths.size())))];
    const Selected without = Selecting(manifest, Exclude({pattern.empty() ? "/x" : pattern, "/**/layer.1*"}));
    const Selected again = Selecting(without.manifest, Exclude({"/none"}));
    ASSERT_EQ(Paths(again.manifest), Paths(without.manifest)) << seed;
    ASSERT_TRUE(EncodeManifest(Selecting(again.manifest, Exclude({"/none"})).manifest) ==
                EncodeManifest(again.manifest));
    dropped += without.manifest.nodes.size() < manifest.nodes.size() ? 1 : 0;
    for (size_t i = 0; i < without.source.size(); ++i) {
      ASSERT_EQ(without.manifest.storages[i].size_bytes, manifest.storages[without.source[i]].size_bytes);
    }
  }
  EXPECT_GT(dropped, 100);
}

}  // namespace
}  // namespace sconce::format
