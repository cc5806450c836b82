#include "storage/format/path.h"

#include <map>

#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Paths(const Manifest& manifest) {
  std::vector<std::string> paths;
  EXPECT_OK(ForEachPath(manifest, [&](absl::string_view path, NodeIndex) {
    paths.emplace_back(path);
    return true;
  }));
  return paths;
}

TEST(PathTest, NamesEveryPlaceInInsertionOrder) {
  ManifestBuilder b;
  const NodeIndex state = b.OrderedDict({{b.Str("conv1.weight"), b.Tensor(DType::kFloat32, {2})}},
                                        b.Dict({{b.Str("_metadata"), b.None()}}));
  const NodeIndex group = b.Dict({{b.Str("lr"), b.Float(0.1)}, {b.Str("params"), b.List({b.Int(0), b.Int(1)})}});
  const NodeIndex momentum = b.Parameter(b.Tensor(DType::kFloat32, {1}));
  const NodeIndex optimizer = b.Dict({{b.Str("state"), b.Dict({{b.Int(0), b.Dict({{b.Str("m"), momentum}})}})},
                                      {b.Str("param_groups"), b.Tuple({group})}});
  b.Dict({{b.Str("model"), state}, {b.Str("optimizer"), optimizer}, {b.Str("size"), b.Size({2, 3})}});
  EXPECT_THAT(Paths(b.manifest()),
              ElementsAre("", "/model", "/model/conv1.weight", "/optimizer", "/optimizer/state", "/optimizer/state/0",
                          "/optimizer/state/0/m", "/optimizer/param_groups", "/optimizer/param_groups/0",
                          "/optimizer/param_groups/0/lr", "/optimizer/param_groups/0/params",
                          "/optimizer/param_groups/0/params/0", "/optimizer/param_groups/0/params/1", "/size"));
}

TEST(PathTest, WritesEveryKindOfKey) {
  ManifestBuilder b;
  const NodeIndex v = b.None();
  b.Dict({{b.Str("a/b"), v},
          {b.Str("~x"), v},
          {b.Str(""), v},
          {b.Int(0), v},
          {b.Str("0"), v},
          {b.Str("1"), v},
          {b.Int(-3), v},
          {b.None(), v},
          {b.Bool(true), v},
          {b.Float(1.5), v},
          {b.Bytes("a/b"), v},
          {b.Tuple({b.Int(1), b.Str("x~/'")}), v},
          {b.Str("\xED\xB2\x80"), v},
          {b.Str("~s0"), v},
          {b.Text(NodeKind::kDtype, "float32"), v}});
  const std::vector<std::string> paths = Paths(b.manifest());
  EXPECT_THAT(paths, ElementsAre("", "/a~1b", "/~0x", "/", "/0", "/~s0", "/1", "/-3", "/~kNone", "/~kTrue", "/~k1.5",
                                 "/~kb'a~1b'", "/~k(1, \"x~0~1'\")", "/~k'\\udc80'", "/~0s0", "/~ktorch.float32"));
  for (const std::string& path : paths) EXPECT_OK(FindPath(b.manifest(), path)) << path;
}

TEST(PathTest, FindsExactlyWhatTheWalkNames) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    const Manifest manifest = RandomManifest(seed).Make();
    std::map<std::string, NodeIndex> places;
    ASSERT_OK(ForEachPath(manifest, [&](absl::string_view path, NodeIndex node) {
      EXPECT_TRUE(places.emplace(std::string(path), node).second) << path << " twice, seed " << seed;
      return true;
    }));
    for (const auto& [path, node] : places) {
      ASSERT_OK_AND_ASSIGN(const NodeIndex found, FindPath(manifest, path));
      ASSERT_EQ(found, node) << path << ", seed " << seed;
    }
  }
}

TEST(PathTest, StopsWhenTold) {
  ManifestBuilder b;
  b.List({b.Int(1), b.Int(2), b.Int(3)});
  int visits = 0;
  EXPECT_OK(ForEachPath(b.manifest(), [&](absl::string_view, NodeIndex) { return ++visits < 2; }));
  EXPECT_EQ(visits, 2);
}

TEST(PathTest, SaysHowFarAPathGoes) {
  ManifestBuilder b;
  b.Dict(
      {{b.Str("model"), b.Dict({{b.Str("fc.weight"), b.Tensor(DType::kFloat32, {1})}, {b.Str("fc.bias"), b.Int(1)}})}});
  const Manifest& manifest = b.manifest();
  EXPECT_THAT(FindPath(manifest, "/model/fc.wait"),
              FailsWith(Reason::PATH_NOT_FOUND, HasSubstr("\"/model\" has \"fc.weight\", \"fc.bias\"")));
  EXPECT_THAT(FindPath(manifest, "/modell"), FailsWith(Reason::PATH_NOT_FOUND, HasSubstr("its root has \"model\"")));
  EXPECT_THAT(FindPath(manifest, "/model/fc.weight/data"),
              FailsWith(Reason::PATH_NOT_FOUND, HasSubstr("\"/model/fc.weight\" is of type tensor")));
  EXPECT_THAT(FindPath(manifest, "/"), FailsWith(Reason::PATH_NOT_FOUND));
}

TEST(PathTest, ShowsOnlySomeOfManyKeys) {
  ManifestBuilder b;
  std::vector<NodeIndex> elements;
  for (int i = 0; i < 1000; ++i) elements.push_back(b.Int(i));
  b.List(elements);
  const auto missing = FindPath(b.manifest(), "/1000");
  EXPECT_THAT(missing, FailsWith(Reason::PATH_NOT_FOUND, AllOf(HasSubstr("\"0\""), HasSubstr("and 992 more"))));
  EXPECT_LT(missing.status().message().size(), 400u);
  EXPECT_THAT(FindPath(b.manifest(), "/01"), FailsWith(Reason::PATH_NOT_FOUND));  // only one way to write a number
  EXPECT_OK(FindPath(b.manifest(), "/999"));
}

TEST(PathTest, RefusesWhatIsNoPath) {
  ManifestBuilder b;
  b.Dict({});
  for (const char* path : {"model", "/a~", "/a~2", "/a~s0", "/~", "a/b", "/x/~x"}) {
    EXPECT_THAT(FindPath(b.manifest(), path), FailsWith(Reason::PATH_INVALID)) << path;
  }
  EXPECT_THAT(FindPath(b.manifest(), "/" + std::string(kMaxPathBytes, 'x')), FailsWith(Reason::PATH_INVALID));
}

TEST(PathTest, AWalkThatWouldNotEndIsRefused) {
  ManifestBuilder b;
  NodeIndex bomb = b.Int(1);
  for (int i = 0; i < 64; ++i) bomb = b.List({bomb, bomb});
  ASSERT_OK(Validate(b.manifest()));
  int64_t visits = 0;
  const auto count = [&](absl::string_view, NodeIndex) { return ++visits > 0; };
  EXPECT_THAT(ForEachPath(b.manifest(), count),
              FailsWith(Reason::INPUT_LIMIT_EXCEEDED, HasSubstr("more than 1000000 paths")));
  EXPECT_EQ(visits, kMaxPaths);
  EXPECT_OK(FindPath(b.manifest(), "/0/1/0/1"));
}

TEST(PathTest, DeepNestingEndsInAnErrorNotInACrash) {
  ManifestBuilder b;
  NodeIndex list = b.List({});
  for (int i = 0; i < 100'000; ++i) list = b.List({list});
  EXPECT_THAT(ForEachPath(b.manifest(), [](absl::string_view, NodeIndex) { return true; }),
              FailsWith(Reason::INPUT_LIMIT_EXCEEDED, HasSubstr("in all")));
  std::string path;
  for (int i = 0; i < 10'000; ++i) path += "/0";
  EXPECT_OK(FindPath(b.manifest(), path));
}

TEST(PathTest, LongSharedKeysDoNotMultiply) {
  ManifestBuilder b;
  const NodeIndex key = b.Str(std::string(60'000, 'k'));
  std::vector<NodeIndex> dicts;
  for (int i = 0; i < 20'000; ++i) dicts.push_back(b.Dict({{key, key}}));
  b.List(dicts);
  EXPECT_THAT(ForEachPath(b.manifest(), [](absl::string_view, NodeIndex) { return true; }),
              FailsWith(Reason::INPUT_LIMIT_EXCEEDED, HasSubstr("in all")));
}

}  // namespace
}  // namespace sconce::format
