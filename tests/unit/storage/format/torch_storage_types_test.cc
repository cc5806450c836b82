#include "storage/format/torch_storage_types.h"

#include <gtest/gtest.h>

#include "tests/support/manifest_builder.h"

namespace sconce::format {
namespace {

NodeIndex Bare(ManifestBuilder& b, StorageIndex storage, const std::string& type) {
  Node node;
  node.kind = NodeKind::kStorage;
  node.integer = storage;
  node.text = type;
  return b.Add(node);
}

// The type that storage 0 gets.
std::optional<DType> First(const ManifestBuilder& b) {
  return TorchStorageTypes(b.Build()).TypeOf(0);
}

TEST(TorchStorageTypesTest, AllTensorsAgree) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(8);
  b.Tuple({b.Tensor(storage, DType::kFloat32, {2}), b.Tensor(storage, DType::kFloat32, {1})});
  EXPECT_EQ(First(b), DType::kFloat32);
}

TEST(TorchStorageTypesTest, TensorsThatDisagreeMakeItUntyped) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(8);
  b.Tuple({b.Tensor(storage, DType::kFloat32, {2}), b.Tensor(storage, DType::kInt32, {2}),
           b.Tensor(storage, DType::kInt32, {2})});
  EXPECT_EQ(First(b), std::nullopt);
}

TEST(TorchStorageTypesTest, ADtypeWithoutAClassOrWithHalfAnElementMakesItUntyped) {
  ManifestBuilder b;
  b.Tuple({b.Tensor(b.Storage(8), DType::kFloat8E5M2, {8}), b.Tensor(b.Storage(9), DType::kFloat32, {2})});
  const TorchStorageTypes types(b.manifest());
  EXPECT_EQ(types.TypeOf(0), std::nullopt);
  EXPECT_EQ(types.TypeOf(1), std::nullopt);
}

TEST(TorchStorageTypesTest, ABareMentionDecides) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(8);
  const NodeIndex bare = Bare(b, storage, "int16");
  b.Tuple({b.Tensor(storage, DType::kFloat32, {2}), bare, b.Tensor(storage, DType::kFloat32, {2})});
  EXPECT_EQ(First(b), DType::kInt16);
  EXPECT_TRUE(TorchStorageTypes(b.manifest()).FitsBare(b.manifest().nodes[bare]));
}

TEST(TorchStorageTypesTest, AnUntypedMentionIsOneOfBytes) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(8);
  const NodeIndex bytes = Bare(b, storage, "uint8");
  const NodeIndex untyped = Bare(b, storage, "untyped");
  const NodeIndex shorts = Bare(b, storage, "int16");
  b.Tuple({bytes, untyped, shorts});
  const TorchStorageTypes types(b.manifest());
  EXPECT_EQ(types.TypeOf(0), DType::kUInt8);
  EXPECT_TRUE(types.FitsBare(b.manifest().nodes[bytes]));
  EXPECT_TRUE(types.FitsBare(b.manifest().nodes[untyped]));
  EXPECT_FALSE(types.FitsBare(b.manifest().nodes[shorts]));
}

TEST(TorchStorageTypesTest, TheDataOfANumpyArrayIsNoMention) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(8);
  const NodeIndex data = Bare(b, storage, "uint8");
  const NodeIndex array = b.Container(NodeKind::kNumpyArray, {b.Str("<f4"), b.IntTuple({2}), b.Bool(false), data});
  b.Tuple({array, b.Tensor(storage, DType::kFloat32, {2})});
  EXPECT_EQ(First(b), DType::kFloat32);
}

}  // namespace
}  // namespace sconce::format
