#include "storage/format/entries.h"

#include "storage/format/path.h"
#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::IsEmpty;

std::vector<Entry> All(const Manifest& manifest) {
  EXPECT_OK(Validate(manifest));
  const auto page = ListEntries(manifest, 0, 1'000'000);
  EXPECT_OK(page);
  return page.ok() ? page->entries : std::vector<Entry>();
}

TEST(EntriesTest, ShowsScalarsAndContainers) {
  ManifestBuilder b;
  b.Dict({{b.Str("epoch"), b.Int(3)},
          {b.Str("betas"), b.Tuple({b.Float(0.9), b.Float(0.999)})},
          {b.Str("name"), b.Str(std::string(500, 'n'))},
          {b.Str("ids"), b.Set({b.Int(2), b.Int(1)})},
          {b.Str("none"), b.None()}});
  const std::vector<Entry> entries = All(b.manifest());
  ASSERT_EQ(entries.size(), 8u);
  EXPECT_EQ(entries[0].path, "");
  EXPECT_EQ(entries[0].type, "dict");
  EXPECT_EQ(entries[0].children, 5);
  EXPECT_EQ(entries[1].path, "/epoch");
  EXPECT_EQ(entries[1].type, "int");
  EXPECT_EQ(entries[1].value, "3");
  EXPECT_EQ(entries[2].type, "tuple");
  EXPECT_EQ(entries[2].children, 2);
  EXPECT_EQ(entries[4].value, "0.999");
  EXPECT_EQ(entries[5].value.size(), 120u);
  EXPECT_EQ(entries[6].value, "{1, 2}");
  EXPECT_EQ(entries[7].value, "None");
}

TEST(EntriesTest, ShowsStridedTensorsAndWhoSharesAStorage) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(4000, "cuda:1");
  TensorView view;
  view.dtype = DType::kFloat16;
  view.storage = storage;
  view.offset = 10;
  view.shape = {3, 4};
  view.stride = {1, 3};
  view.requires_grad = true;
  b.Dict({{b.Str("a"), b.View(view)},
          {b.Str("b"), b.Parameter(b.Tensor(storage, DType::kFloat32, {1000}))},
          {b.Str("m"), b.Tensor(kNoIndex, DType::kInt64, {7})}});
  const std::vector<Entry> entries = All(b.manifest());
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[1].type, "tensor");
  EXPECT_EQ(entries[1].dtype, "float16");
  EXPECT_EQ(entries[1].shape, (Dims{3, 4}));
  EXPECT_EQ(entries[1].stride, (Dims{1, 3}));
  EXPECT_EQ(entries[1].offset, 10);
  EXPECT_EQ(entries[1].bytes, 24);
  EXPECT_EQ(entries[1].device, "cuda:1");
  EXPECT_TRUE(entries[1].requires_grad);
  EXPECT_EQ(entries[1].storage, storage);
  EXPECT_FALSE(entries[1].shares_storage);
  EXPECT_EQ(entries[2].type, "parameter");
  EXPECT_EQ(entries[2].dtype, "float32");
  EXPECT_EQ(entries[2].bytes, 4000);
  EXPECT_TRUE(entries[2].requires_grad);
  EXPECT_TRUE(entries[2].shares_storage);
  EXPECT_EQ(entries[3].device, "meta");
  EXPECT_EQ(entries[3].storage, kNoIndex);
}

TEST(EntriesTest, ShowsTensorsMadeOfSeveral) {
  ManifestBuilder b;
  const NodeIndex sparse = b.SparseCoo({100, 50}, b.Tensor(DType::kInt64, {2, 3}), b.Tensor(DType::kFloat32, {3}));
  const NodeIndex sharded = b.Container(NodeKind::kShardedTensor,
                                        {b.Size({4}), b.IntTuple({0}), b.IntTuple({2}), b.Tensor(DType::kFloat64, {2}),
                                         b.IntTuple({2}), b.IntTuple({2}), b.Tensor(DType::kFloat64, {2})});
  Node subclass;
  subclass.kind = NodeKind::kTensorSubclass;
  subclass.text = "my.Tensor";
  subclass.children = {b.Tuple({b.Int(1), b.Tensor(DType::kInt8, {5})}), b.Dict({})};
  const NodeIndex other = b.Add(subclass);
  Node bare;
  bare.kind = NodeKind::kStorage;
  bare.text = "untyped";
  bare.integer = b.Storage(77, "mps");
  const NodeIndex storage = b.Add(bare);
  b.List({sparse, sharded, other, b.NumpyArray("<f4", {2, 2}, std::string(16, 'x')), storage});
  const std::vector<Entry> entries = All(b.manifest());
  ASSERT_EQ(entries.size(), 6u);
  EXPECT_EQ(entries[1].type, "sparse_tensor");
  EXPECT_EQ(entries[1].dtype, "float32");
  EXPECT_EQ(entries[1].shape, (Dims{100, 50}));
  EXPECT_EQ(entries[1].bytes, 48 + 12);
  EXPECT_EQ(entries[2].shape, (Dims{4}));
  EXPECT_EQ(entries[2].bytes, 32);
  EXPECT_EQ(entries[3].value, "my.Tensor");
  EXPECT_EQ(entries[3].shape, (Dims{5}));
  EXPECT_EQ(entries[4].dtype, "<f4");
  EXPECT_EQ(entries[4].bytes, 16);
  EXPECT_EQ(entries[5].dtype, "untyped");
  EXPECT_EQ(entries[5].bytes, 77);
  EXPECT_EQ(entries[5].device, "mps");
}

TEST(EntriesTest, PagesAddUpToTheWhole) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    const Manifest manifest = RandomManifest(seed).Make();
    const std::vector<Entry> all = All(manifest);
    for (const int64_t size : {1, 3, 7}) {
      std::vector<Entry> paged;
      int64_t next = 0;
      while (next != -1) {
        ASSERT_OK_AND_ASSIGN(EntryPage page, ListEntries(manifest, next, size));
        ASSERT_LE(static_cast<int64_t>(page.entries.size()), size);
        for (Entry& entry : page.entries) paged.push_back(std::move(entry));
        ASSERT_EQ(page.next, paged.size() == all.size() ? -1 : static_cast<int64_t>(paged.size()));
        next = page.next;
      }
      ASSERT_EQ(paged.size(), all.size());
      for (size_t i = 0; i < all.size(); ++i) {
        ASSERT_EQ(paged[i].path, all[i].path);
        ASSERT_EQ(paged[i].storage, all[i].storage);
        ASSERT_EQ(paged[i].shares_storage, all[i].shares_storage) << all[i].path << " seed " << seed;
      }
    }
  }
}

TEST(EntriesTest, KnowsTheEndAndRefusesNegativeNumbers) {
  ManifestBuilder b;
  b.List({b.Int(1)});
  ASSERT_OK_AND_ASSIGN(const EntryPage exact, ListEntries(b.manifest(), 0, 2));
  EXPECT_EQ(exact.next, -1);
  ASSERT_OK_AND_ASSIGN(const EntryPage past, ListEntries(b.manifest(), 2, 2));
  EXPECT_THAT(past.entries, IsEmpty());
  EXPECT_EQ(past.next, -1);
  ASSERT_OK_AND_ASSIGN(const EntryPage none, ListEntries(b.manifest(), 1, 0));
  EXPECT_THAT(none.entries, IsEmpty());
  EXPECT_EQ(none.next, 1);
  EXPECT_THAT(ListEntries(b.manifest(), -1, 2), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(ListEntries(b.manifest(), 0, -2), FailsWith(Reason::ARGUMENT_INVALID));
}

TEST(EntriesTest, ATreeWithoutEndIsListedAsFarAsAllowed) {
  ManifestBuilder b;
  NodeIndex bomb = b.Int(1);
  for (int i = 0; i < 64; ++i) bomb = b.List({bomb, bomb});
  EXPECT_OK(ListEntries(b.manifest(), 1000, 100));
  EXPECT_THAT(ListEntries(b.manifest(), kMaxPaths, 100), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  EXPECT_EQ(CountTotals(b.manifest()).scalars, 1);
}

TEST(TotalsTest, CountEachObjectOnce) {
  ManifestBuilder b;
  const NodeIndex weight = b.Parameter(b.Tensor(DType::kFloat32, {1000}));
  const NodeIndex attributes = b.Dict({{b.Str("hidden"), b.Tensor(DType::kInt8, {3})}});
  const NodeIndex model = b.OrderedDict({{b.Str("w"), weight}, {b.Str("tied"), weight}}, attributes);
  b.Dict(
      {{b.Str("model"), model}, {b.Str("epoch"), b.Int(1)}, {b.Str("meta"), b.Tensor(DType::kFloat32, {9}, "meta")}});
  const Totals totals = CountTotals(b.manifest());
  EXPECT_EQ(totals.tensors, 2);
  EXPECT_EQ(totals.parameters_elements, 1009);
  EXPECT_EQ(totals.tensor_bytes, 4036);
  EXPECT_EQ(totals.scalars, 1);
  EXPECT_EQ(totals.storages, 3);
  EXPECT_EQ(totals.storage_bytes, 4003);
}

TEST(TotalsTest, SaturateForExpandedTensors) {
  ManifestBuilder b;
  TensorView view;
  view.dtype = DType::kFloat64;
  view.storage = b.Storage(8);
  view.shape = {int64_t{1} << 61};
  view.stride = {0};
  b.List({b.View(view)});
  ASSERT_OK(Validate(b.manifest()));
  EXPECT_EQ(CountTotals(b.manifest()).tensor_bytes, INT64_MAX);
  EXPECT_EQ(All(b.manifest())[1].bytes, INT64_MAX);
}

}  // namespace
}  // namespace sconce::format
