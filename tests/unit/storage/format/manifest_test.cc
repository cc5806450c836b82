#include "storage/format/manifest.h"

#include <limits>

#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

Manifest Plain() {
  ManifestBuilder b;
  b.Dict({{b.Str("epoch"), b.Int(3)}, {b.Str("w"), b.Tensor(DType::kFloat32, {2, 3})}});
  return b.Build();
}

TEST(ManifestTest, CountsElementsWithoutOverflow) {
  EXPECT_EQ(ElementCount({}), 1);
  EXPECT_EQ(ElementCount({2, 3}), 6);
  EXPECT_EQ(ElementCount({kMax, kMax, 0}), 0);
  EXPECT_EQ(ElementCount({kMax, 2}), -1);
  EXPECT_EQ(ElementCount({2, -1}), -1);
}

TEST(ManifestTest, FindsTheEndOfAView) {
  TensorView view;
  view.dtype = DType::kFloat32;
  view.shape = {2, 3};
  view.stride = {3, 1};
  EXPECT_EQ(ViewEndBytes(view), 24);
  view.offset = 10;
  EXPECT_EQ(ViewEndBytes(view), 64);
  view.stride = {0, 0};
  EXPECT_EQ(ViewEndBytes(view), 44);
  view.shape = {0, 3};
  EXPECT_EQ(ViewEndBytes(view), 0);
  view.shape = {1, 1};
  view.stride = {kMax, kMax};  // steps never taken
  EXPECT_EQ(ViewEndBytes(view), 44);
}

TEST(ManifestTest, RefusesViewsThatOverflow) {
  TensorView view;
  view.dtype = DType::kFloat64;
  view.shape = {3};
  view.stride = {kMax / 2 + 1};
  EXPECT_EQ(ViewEndBytes(view), -1);
  view.stride = {kMax / 2};
  EXPECT_EQ(ViewEndBytes(view), -1);  // elements fit, bytes do not
  view.stride = {-1};
  EXPECT_EQ(ViewEndBytes(view), -1);
  view.stride = {1, 1};
  EXPECT_EQ(ViewEndBytes(view), -1);
  view.stride = {1};
  view.offset = kMax;
  EXPECT_EQ(ViewEndBytes(view), -1);
  view.offset = -1;
  EXPECT_EQ(ViewEndBytes(view), -1);
}

TEST(ManifestTest, GivesContiguousStrides) {
  Dims stride;
  EXPECT_TRUE(ContiguousStride({2, 0, 3}, stride));
  EXPECT_EQ(stride, (Dims{3, 3, 1}));
  EXPECT_TRUE(ContiguousStride({}, stride));
  EXPECT_TRUE(stride.empty());
  EXPECT_FALSE(ContiguousStride({0, kMax, kMax}, stride));
}

TEST(ManifestTest, KnowsWhatTravelsInBulk) {
  ManifestBuilder b;
  b.Storage(kInlineStorageBytes);
  b.Storage(kInlineStorageBytes + 1);
  b.Storage(1 << 20, "meta");
  b.Storage(kChunkBytes + 1, "cuda:3");
  const Manifest& manifest = b.manifest();
  EXPECT_FALSE(IsBulk(manifest.storages[0]));
  EXPECT_TRUE(IsBulk(manifest.storages[1]));
  EXPECT_FALSE(IsBulk(manifest.storages[2]));
  EXPECT_EQ(BulkBytes(manifest), kInlineStorageBytes + 1 + kChunkBytes + 1);
  EXPECT_EQ(ChunkCount(kChunkBytes), 1);
  EXPECT_EQ(ChunkCount(kChunkBytes + 1), 2);
  EXPECT_FALSE(HasChunkTable(manifest));
}

TEST(ValidateTest, AcceptsEveryRandomManifest) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    RandomManifest random(seed);
    Manifest manifest = random.Make();
    ASSERT_OK(Validate(manifest)) << "seed " << seed;
    random.GiveChunks(manifest);
    ASSERT_OK(Validate(manifest)) << "seed " << seed;
  }
}

TEST(ValidateTest, AcceptsAHundredThousandNestedLists) {
  ManifestBuilder b;
  NodeIndex list = b.List({});
  for (int i = 0; i < 100'000; ++i) list = b.List({list});
  EXPECT_OK(Validate(b.manifest()));
}

TEST(ValidateTest, TakesLinearTimeForSharingThatExpandsWithoutEnd) {
  ManifestBuilder b;
  NodeIndex bomb = b.Tuple({b.Int(1), b.Str(std::string(1000, 'x'))});
  for (int i = 0; i < 1000; ++i) bomb = b.Tuple({bomb, bomb});
  b.List({bomb});
  EXPECT_OK(Validate(b.manifest()));
  b.Set({b.Int(1)});
  b.manifest().nodes.back().children.push_back(bomb);  // expands to 2^1000 elements when compared
  b.List({b.manifest().root(), b.manifest().root() - 2});
  EXPECT_THAT(Validate(b.manifest()), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST(ValidateTest, RefusesReferencesThatAreNotTheBefore) {
  Manifest manifest = Plain();
  manifest.nodes.back().children[1] = manifest.root();
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("does not come before")));
  manifest.nodes.back().children[1] = kNoIndex;
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID));
  manifest = Manifest();
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("no nodes")));
}

TEST(ValidateTest, RefusesWhatNothingRefersTo) {
  ManifestBuilder b;
  b.Int(1);
  b.List({});
  EXPECT_THAT(Validate(b.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("node 0 (int): nothing refers")));

  Manifest manifest = Plain();
  manifest.tensors.push_back(manifest.tensors[0]);
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("tensor 1: nothing refers")));
  manifest = Plain();
  manifest.storages.emplace_back();
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("storage 1: nothing refers")));
}

TEST(ValidateTest, RefusesOneTensorInTwoNodes) {
  ManifestBuilder b;
  const NodeIndex one = b.Tensor(DType::kFloat32, {2});
  const NodeIndex other = b.Add(b.manifest().nodes[one]);
  b.List({one, other});
  EXPECT_THAT(Validate(b.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("share the node")));
}

TEST(ValidateTest, RefusesViewsOutsideTheirStorage) {
  Manifest manifest = Plain();
  manifest.tensors[0].offset = 1;
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("reaches to byte 28")));
  manifest = Plain();
  manifest.tensors[0].stride[0] = kMax;
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("overflow")));
  manifest = Plain();
  manifest.tensors[0].storage = 1;
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("no such storage")));
  manifest = Plain();
  manifest.tensors[0].conjugate = true;
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("conjugate")));
  manifest = Plain();
  manifest.tensors[0].shape.assign(kMaxRank + 1, 1);
  manifest.tensors[0].stride.assign(kMaxRank + 1, 1);
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("64 dimensions")));
  manifest = Plain();
  manifest.tensors[0].dtype = static_cast<DType>(200);
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("dtype")));
}

TEST(ValidateTest, RefusesStoragesWhoseBytesDoNotAddUp) {
  Manifest manifest = Plain();
  manifest.storages[0].inline_bytes.pop_back();
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("23 inline bytes")));
  manifest = Plain();
  manifest.storages[0].device = "meta";
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID));
  manifest = Plain();
  manifest.storages[0].device = "cp u";
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("device tag")));
  manifest = Plain();
  manifest.storages[0].size_bytes = -1;
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("negative size")));
  manifest = Plain();
  manifest.storages[0].chunks.emplace_back();
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("1 chunks")));
}

TEST(ValidateTest, WantsChunksForAllStoragesOrForNone) {
  ManifestBuilder b;
  b.List({b.Tensor(DType::kUInt8, {kChunkBytes + 1}), b.Tensor(DType::kUInt8, {5000})});
  Manifest manifest = b.Build();
  EXPECT_OK(Validate(manifest));
  manifest.storages[0].chunks.resize(2);
  EXPECT_EQ(manifest.storages[0].chunks.size() + manifest.storages[1].chunks.size(), 2u);
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("some have not")));
  EXPECT_FALSE(HasChunkTable(manifest));
  for (auto& storage : manifest.storages) storage.chunks.resize(static_cast<size_t>(ChunkCount(storage.size_bytes)));
  EXPECT_OK(Validate(manifest));
  EXPECT_TRUE(HasChunkTable(manifest));
  manifest.storages[0].chunks.resize(1);
  EXPECT_THAT(Validate(manifest), FailsWith(Reason::MANIFEST_INVALID));
}

TEST(ValidateTest, RefusesStoragesThatTogetherOverflow) {
  ManifestBuilder b;
  b.List({b.Tensor(b.Storage(kMax), DType::kUInt8, {1}), b.Tensor(b.Storage(2000), DType::kUInt8, {1})});
  EXPECT_THAT(Validate(b.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("2^63")));
}

TEST(ValidateTest, RefusesFieldsThatAKindDoesNotHave) {
  ManifestBuilder b;
  b.None();
  const auto with = [&](auto change) {
    Manifest manifest = b.Build();
    change(manifest.nodes[0]);
    return Validate(manifest);
  };
  EXPECT_OK(with([](Node&) {}));
  EXPECT_THAT(with([](Node& n) { n.integer = 1; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(with([](Node& n) { n.real = -0.0; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(with([](Node& n) { n.imaginary = 1; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(with([](Node& n) { n.text = "x"; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(with([](Node& n) { n.tensor = 0; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(with([](Node& n) { n.kind = static_cast<NodeKind>(29); }), FailsWith(Reason::MANIFEST_INVALID));
}

TEST(ValidateTest, HoldsScalarsToTheirForms) {
  const auto validate = [](auto make) {
    ManifestBuilder b;
    make(b);
    return Validate(b.manifest());
  };
  EXPECT_THAT(validate([](auto& b) { b.Text(NodeKind::kInt, "\x01"); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.BigInt(std::string(9, '\0')); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.BigInt(std::string(12, '\xFF')); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_OK(validate([](auto& b) { b.BigInt(std::string(8, '\0') + "\x01"); }));
  EXPECT_THAT(validate([](auto& b) { b.Str("\xC0\x80"); }), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("UTF-8")));
  EXPECT_OK(validate([](auto& b) { b.Str("\xED\xB2\x80"); }));
  EXPECT_THAT(validate([](auto& b) { b.Text(NodeKind::kDtype, "torch.float32"); }),
              FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.Text(NodeKind::kDevice, ""); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.Container(NodeKind::kSize, {b.Str("3")}); }),
              FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.Size({-1}); }), FailsWith(Reason::MANIFEST_INVALID));
}

TEST(ValidateTest, RefusesDictsThatPythonCouldNotHold) {
  const auto dict = [](auto make_keys) {
    ManifestBuilder b;
    std::vector<std::pair<NodeIndex, NodeIndex>> items;
    for (const NodeIndex key : make_keys(b)) items.emplace_back(key, key);
    b.Dict(items);
    return Validate(b.manifest());
  };
  using Keys = std::vector<NodeIndex>;
  EXPECT_OK(dict([](auto& b) { return Keys{b.Int(0), b.Str("0"), b.None(), b.Bytes("0"), b.Float(0.5)}; }));
  EXPECT_THAT(dict([](auto& b) {
                return Keys{b.Str("a"), b.Str("a")};
              }),
              FailsWith(Reason::MANIFEST_INVALID, HasSubstr("two keys are equal")));
  EXPECT_THAT(dict([](auto& b) { return Keys{b.Int(1), b.Bool(true)}; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(dict([](auto& b) { return Keys{b.Float(-0.0), b.Int(0)}; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(dict([](auto& b) { return Keys{b.Complex(2, 0), b.Int(2)}; }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(dict([](auto& b) {
                return Keys{b.Tuple({b.Int(2)}), b.Tuple({b.Int(2)})};
              }),
              FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_OK(dict([](auto& b) { return Keys{b.Float(NAN), b.Float(NAN)}; }));
  EXPECT_THAT(dict([](auto& b) { return Keys{b.List({})}; }),
              FailsWith(Reason::MANIFEST_INVALID, HasSubstr("cannot be a key")));
  EXPECT_THAT(dict([](auto& b) { return Keys{b.Tuple({b.List({})})}; }), FailsWith(Reason::MANIFEST_INVALID));
  ManifestBuilder b;
  b.Container(NodeKind::kDict, {b.Str("a")});
  EXPECT_THAT(Validate(b.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("without a value")));
  ManifestBuilder o;
  o.Container(NodeKind::kOrderedDict, {o.Str("a")});
  EXPECT_THAT(Validate(o.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("without a value")));
}

TEST(ValidateTest, WantsSetsInOrder) {
  ManifestBuilder b;
  b.Set({b.Str("b"), b.Int(7), b.Str("a"), b.Int(7)});
  EXPECT_EQ(b.manifest().nodes.back().children, (std::vector<NodeIndex>{1, 2, 0}));
  ManifestBuilder unsorted;
  unsorted.Container(NodeKind::kSet, {unsorted.Str("b"), unsorted.Str("a")});
  EXPECT_THAT(Validate(unsorted.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("ascending")));
  ManifestBuilder twice;
  twice.Container(NodeKind::kSet, {twice.Str("a"), twice.Str("a")});
  EXPECT_THAT(Validate(twice.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("ascending")));
  ManifestBuilder tensor;
  tensor.Container(NodeKind::kSet, {tensor.Tensor(DType::kInt8, {1})});
  EXPECT_THAT(Validate(tensor.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("cannot be in a set")));
}

TEST(ValidateTest, ChecksArraysAgainstTheirShape) {
  const auto validate = [](auto make) {
    ManifestBuilder b;
    make(b);
    return Validate(b.manifest());
  };
  EXPECT_OK(validate([](auto& b) { b.NumpyArray("<f4", {2, 2}, std::string(16, 'x')); }));
  EXPECT_THAT(validate([](auto& b) {
                b.NumpyArray("<f4", {2, 2}, std::string(15, 'x'));
              }),
              FailsWith(Reason::MANIFEST_INVALID, HasSubstr("more or fewer bytes")));
  EXPECT_THAT(validate([](auto& b) { b.NumpyArray("<f4", {kMax, 8}, ""); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.NumpyArray("|O8", {1}, std::string(8, 'x')); }),
              FailsWith(Reason::MANIFEST_INVALID, HasSubstr("numpy dtype")));
  EXPECT_THAT(validate([](auto& b) { b.NumpyScalar("<f8", "1234567"); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_OK(validate([](auto& b) { b.NumpyScalar("<M8[ns]", "12345678"); }));
}

TEST(ValidateTest, ChecksTheShapeOfEveryComposite) {
  const auto validate = [](auto make) {
    ManifestBuilder b;
    make(b);
    return Validate(b.manifest());
  };
  EXPECT_THAT(validate([](auto& b) { b.Parameter(b.Int(1)); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.SparseCoo({2}, b.Int(1), b.Tensor(DType::kFloat32, {1})); }),
              FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) { b.Container(NodeKind::kNestedTensor, {}); }), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) {
                b.Container(NodeKind::kShardedTensor, {b.Size({2}), b.IntTuple({0})});
              }),
              FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(validate([](auto& b) {
                b.Container(NodeKind::kShardedTensor,
                            {b.Size({2}), b.IntTuple({kMax}), b.IntTuple({1}), b.Tensor(DType::kInt8, {1})});
              }),
              FailsWith(Reason::MANIFEST_INVALID, HasSubstr("outside the global shape")));
  EXPECT_THAT(validate([](auto& b) {
                Node node;
                node.kind = NodeKind::kStorage;
                node.text = "untyped";
                node.integer = int64_t{1} << 40;
                b.Add(node);
              }),
              FailsWith(Reason::MANIFEST_INVALID, HasSubstr("no such storage")));
}

}  // namespace
}  // namespace sconce::format
