#include "storage/format/state_dict.h"

#include "storage/format/entries.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::vector<std::string> Paths(const Manifest& manifest) {
  const absl::StatusOr<EntryPage> page = ListEntries(manifest, 1, 1000);
  EXPECT_OK(page);
  std::vector<std::string> paths;
  if (page.ok()) {
    for (const Entry& entry : page->entries) paths.push_back(entry.path);
  }
  return paths;
}

NodeIndex Metadata(ManifestBuilder& b, const std::vector<std::pair<std::string, int64_t>>& versions) {
  ManifestBuilder::Items items;
  for (const auto& [module, version] : versions) {
    items.emplace_back(b.Str(module), b.Dict({{b.Str("version"), b.Int(version)}}));
  }
  const NodeIndex metadata = b.OrderedDict(items);
  return b.Dict({{b.Str("_metadata"), metadata}});
}

TEST(StateDictTest, ListsKeysWithDtypeShapeAndVersions) {
  ManifestBuilder b;
  const NodeIndex weight = b.Parameter(b.Tensor(DType::kFloat32, {3, 2}));
  const NodeIndex count = b.Tensor(DType::kInt64, {});
  const NodeIndex metadata = Metadata(b, {{"", 1}, {"bn", 2}});
  b.OrderedDict({{b.Str("fc.weight"), weight}, {b.Str("bn.num_batches_tracked"), count}, {b.Str("n"), b.Int(3)}},
                metadata);
  const Manifest manifest = b.Build();
  ASSERT_OK_AND_ASSIGN(const StateDict dict, ReadStateDict(manifest, "/model"));
  ASSERT_EQ(dict.keys.size(), 3);
  EXPECT_EQ(dict.keys[0].key, "fc.weight");
  EXPECT_EQ(dict.keys[0].dtype, "float32");
  EXPECT_THAT(dict.keys[0].shape, ElementsAre(3, 2));
  EXPECT_EQ(dict.keys[1].dtype, "int64");
  EXPECT_TRUE(dict.keys[1].is_tensor);
  EXPECT_FALSE(dict.keys[2].is_tensor);
  EXPECT_EQ(PythonTypeText(manifest, dict.keys[2].value), "<class 'int'>");
  EXPECT_THAT(dict.versions, UnorderedElementsAre(testing::Pair("", 1), testing::Pair("bn", 2)));
}

TEST(StateDictTest, WhatIsNoneSaysWhereOneIs) {
  ManifestBuilder b;
  const NodeIndex model = b.OrderedDict({{b.Str("w"), b.Tensor(DType::kFloat32, {1})}});
  b.Dict({{b.Str("epoch"), b.Int(3)}, {b.Str("model_state_dict"), model}});
  const absl::Status status = ReadStateDict(b.Build(), "").status();
  EXPECT_THAT(status, FailsWith(Reason::STATE_DICT_INVALID));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/model_state_dict"));
}

TEST(StateDictTest, RefusesOtherKindsAndOtherKeys) {
  ManifestBuilder list;
  list.List({list.Tensor(DType::kFloat32, {1})});
  EXPECT_THAT(ReadStateDict(list.Build(), "/x"), FailsWith(Reason::STATE_DICT_INVALID));
  ManifestBuilder ints;
  ints.Dict({{ints.Int(0), ints.Tensor(DType::kFloat32, {1})}});
  EXPECT_THAT(ReadStateDict(ints.Build(), "/x"), FailsWith(Reason::STATE_DICT_INVALID));
}

TEST(StateDictTest, AnEmptyOneIsOne) {
  ManifestBuilder b;
  b.OrderedDict({});
  ASSERT_OK_AND_ASSIGN(const StateDict dict, ReadStateDict(b.Build(), ""));
  EXPECT_TRUE(dict.keys.empty());
}

TEST(StateDictTest, KeptKeysHaveTheirNewNamesAndOnlyTheirStorages) {
  ManifestBuilder b;
  const NodeIndex first = b.Tensor(DType::kFloat32, {1024});
  const NodeIndex second = b.Tensor(DType::kFloat32, {2048});
  const NodeIndex third = b.Tensor(DType::kFloat32, {512});
  b.OrderedDict({{b.Str("m.a"), first}, {b.Str("m.b"), second}, {b.Str("m.tied"), first}, {b.Str("m.c"), third}});
  const Manifest manifest = b.Build();
  ASSERT_OK_AND_ASSIGN(const StateDict dict, ReadStateDict(manifest, ""));
  const Selected kept = KeepKeys(manifest, dict, {{3, "c"}, {0, "x.a"}, {2, "x.t"}});
  ASSERT_OK(Validate(kept.manifest));
  EXPECT_THAT(Paths(kept.manifest), ElementsAre("/c", "/x.a", "/x.t"));
  EXPECT_THAT(kept.source, ElementsAre(0, 2));
  EXPECT_EQ(kept.manifest.storages[0].size_bytes, 4096);
  ASSERT_OK_AND_ASSIGN(const EntryPage page, ListEntries(kept.manifest, 1, 10));
  EXPECT_TRUE(page.entries[2].shares_storage);
  EXPECT_TRUE(kept.manifest.derived);
}

TEST(StateDictTest, MetadataFollowsTheModules) {
  ManifestBuilder b;
  const NodeIndex metadata = Metadata(b, {{"", 1}, {"module", 1}, {"module.bn", 2}, {"module.gone", 3}});
  b.OrderedDict({{b.Str("module.bn.weight"), b.Tensor(DType::kFloat32, {4})},
                 {b.Str("module.gone.w"), b.Tensor(DType::kFloat32, {4})}},
                metadata);
  const Manifest manifest = b.Build();
  ASSERT_OK_AND_ASSIGN(const StateDict dict, ReadStateDict(manifest, ""));
  const Selected kept = KeepKeys(manifest, dict, {{0, "norm.weight"}});
  ASSERT_OK(Validate(kept.manifest));
  ASSERT_OK_AND_ASSIGN(const StateDict after, ReadStateDict(kept.manifest, ""));
  EXPECT_THAT(after.versions, UnorderedElementsAre(testing::Pair("norm", 2)));
}

}  // namespace
}  // namespace sconce::format
