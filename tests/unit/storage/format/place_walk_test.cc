#include "storage/format/place_walk.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;

// "path:rule" of every visit, "-" for no rule.
std::vector<std::string> Visits(const Manifest& manifest, const std::vector<std::string>& patterns,
                                const std::vector<size_t>& outcomes) {
  std::vector<std::string> visits;
  const auto rules = PatternSet::Compile(patterns);
  EXPECT_OK(rules);
  EXPECT_OK(WalkPlaces(
      manifest, *rules, outcomes, [&](NodeIndex node) { return manifest.nodes[node].tensor != kNoIndex; },
      [&](absl::string_view path, NodeIndex, size_t rule) {
        visits.push_back(absl::StrCat(path, ":", rule == PatternSet::kNoPattern ? "-" : absl::StrCat(rule)));
        return absl::OkStatus();
      }));
  return visits;
}

// {a: {w: tensor, s: sparse of two tensors}, b: the same dict as a}
Manifest Shared() {
  ManifestBuilder b;
  const NodeIndex indices = b.Tensor(DType::kInt64, {2, 1}), values = b.Tensor(DType::kFloat32, {1});
  const NodeIndex sparse = b.SparseCoo({4, 4}, indices, values);
  const NodeIndex inner = b.Dict({{b.Str("w"), b.Tensor(DType::kFloat32, {4})}, {b.Str("s"), sparse}});
  b.Dict({{b.Str("a"), inner}, {b.Str("b"), inner}});
  return b.Build();
}

TEST(PlaceWalkTest, WithoutRulesWhatIsSharedIsVisitedOnce) {
  EXPECT_THAT(Visits(Shared(), {}, {}), ElementsAre("/a/w:-", "/a/s:-", "/a/s:-"));
}

TEST(PlaceWalkTest, TheFirstRuleAtOrAboveAPlaceCountsOnceForEachOutcome) {
  EXPECT_THAT(Visits(Shared(), {"/b/w", "/b"}, {1, 2}),
              ElementsAre("/a/w:-", "/a/s:-", "/a/s:-", "/b/w:0", "/b/s:1", "/b/s:1"));
  EXPECT_THAT(Visits(Shared(), {"**/w", "/b"}, {1, 0}), ElementsAre("/a/w:0", "/a/s:-", "/a/s:-"));
}

TEST(PlaceWalkTest, AnErrorEndsTheWalk) {
  const auto rules = PatternSet::Compile({});
  ASSERT_OK(rules);
  int visits = 0;
  const Manifest manifest = Shared();
  EXPECT_TRUE(absl::IsAborted(WalkPlaces(
      manifest, *rules, {}, [&](NodeIndex node) { return manifest.nodes[node].tensor != kNoIndex; },
      [&](absl::string_view, NodeIndex, size_t) {
        return ++visits == 2 ? absl::AbortedError("") : absl::OkStatus();
      })));
  EXPECT_EQ(visits, 2);
}

TEST(PlaceWalkTest, AttributesOfAnOrderedDictBelongToItsPlace) {
  ManifestBuilder b;
  const NodeIndex attributes = b.Dict({{b.Str("kept"), b.Tensor(DType::kFloat32, {1})}});
  const NodeIndex ordered = b.OrderedDict({}, attributes);
  b.Dict({{b.Str("o"), ordered}});
  EXPECT_THAT(Visits(b.Build(), {"/o"}, {1}), ElementsAre("/o:0"));
}

}  // namespace
}  // namespace sconce::format
