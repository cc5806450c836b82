#include "proto/wire/tree_codec.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace sconce::wire {
namespace {

TEST(TreeCodecTest, SelectionComesBack) {
  const format::Selection selection = {"/model", {"/conv1/**", "/fc"}, {"/*/bias"}};
  const format::Selection back = FromProto(ToProto(selection));
  EXPECT_EQ(back.root, selection.root);
  EXPECT_EQ(back.include, selection.include);
  EXPECT_EQ(back.exclude, selection.exclude);
  EXPECT_TRUE(FromProto(v1::Selection()).empty());
}

TEST(TreeCodecTest, DeviceMappingComesBackWithRulesInOrderAndRemapSorted) {
  format::DeviceMapping mapping;
  mapping.device = "cpu";
  mapping.remap = {{"cuda:1", "cuda:0"}, {"cuda:0", "cpu"}};
  mapping.rules = {{"/b", "cuda:1"}, {"/a", "cpu"}};
  mapping.available = {"cpu", "cuda:0"};
  mapping.fallback = "cpu";
  const format::DeviceMapping back = FromProto(ToProto(mapping));
  EXPECT_EQ(back.device, "cpu");
  EXPECT_EQ(back.remap, (std::vector<std::pair<std::string, std::string>>{{"cuda:0", "cpu"}, {"cuda:1", "cuda:0"}}));
  ASSERT_EQ(back.rules.size(), 2u);
  EXPECT_EQ(back.rules[0].pattern, "/b");
  EXPECT_EQ(back.rules[1].device, "cpu");
  EXPECT_EQ(back.available, mapping.available);
  EXPECT_EQ(back.fallback, "cpu");
  EXPECT_TRUE(FromProto(v1::DeviceMapping()).empty());
}

TEST(TreeCodecTest, TheFirstRemapOfATagCounts) {
  format::DeviceMapping mapping;
  mapping.remap = {{"cuda:0", "cpu"}, {"cuda:0", "cuda:1"}};
  EXPECT_EQ(ToProto(mapping).remap().at("cuda:0"), "cpu");
}

TEST(TreeCodecTest, PatternsOfACastAreRulesForItsDtype) {
  v1::DtypeCast proto;
  proto.set_dtype("float16");
  v1::DtypeRule& rule = *proto.add_rules();
  rule.set_pattern("/norm/**");
  format::DtypeCast cast = FromProto(proto);
  EXPECT_EQ(cast.dtype, "float16");
  ASSERT_EQ(cast.rules.size(), 1u);
  EXPECT_EQ(cast.rules[0].dtype, "");
  proto.add_patterns("/model");
  cast = FromProto(proto);
  EXPECT_EQ(cast.dtype, "");
  ASSERT_EQ(cast.rules.size(), 2u);
  EXPECT_EQ(cast.rules[0].pattern, "/norm/**");
  EXPECT_EQ(cast.rules[1].pattern, "/model");
  EXPECT_EQ(cast.rules[1].dtype, "float16");
  EXPECT_TRUE(FromProto(v1::DtypeCast()).empty());
}

TEST(TreeCodecTest, MappedDeviceComesBack) {
  const format::MappedDevice back = FromProto(ToProto(format::MappedDevice{"cuda:0", "cpu", true, 3, 1024, "/w"}));
  EXPECT_EQ(back.from, "cuda:0");
  EXPECT_EQ(back.to, "cpu");
  EXPECT_TRUE(back.fell_back);
  EXPECT_EQ(back.storages, 3);
  EXPECT_EQ(back.bytes, 1024);
  EXPECT_EQ(back.first_path, "/w");
}

TEST(TreeCodecTest, KeyRulesAndTargetKeysComeBack) {
  const format::KeyRules rules{{"module.", "_orig_mod."}, "net.", {{"a.*", "b.*"}, {"c", "d"}}};
  EXPECT_TRUE(FromProto(ToProto(rules)) == rules);
  EXPECT_TRUE(FromProto(v1::KeyRules()).empty());
  EXPECT_FALSE(FromProto(ToProto(rules)) == format::KeyRules());
  const format::TargetKey back = FromProto(ToProto(format::TargetKey{"fc.weight", {3, 2}, "float32"}));
  EXPECT_EQ(back.key, "fc.weight");
  EXPECT_EQ(back.shape, (format::Dims{3, 2}));
  EXPECT_EQ(back.dtype, "float32");
}

TEST(TreeCodecTest, EntriesCarryEverythingAndBecomeUtf8) {
  format::Entry entry;
  entry.path = "/a\xFF";
  entry.type = "tensor";
  entry.dtype = "float32";
  entry.shape = {2, 3};
  entry.stride = {3, 1};
  entry.offset = 5;
  entry.device = "cuda:0";
  entry.bytes = 24;
  entry.requires_grad = true;
  entry.storage = 7;
  entry.shares_storage = true;
  entry.value = "v";
  entry.children = 4;
  const v1::TreeEntry proto = ToProto(entry);
  EXPECT_EQ(proto.path(), "/a\xEF\xBF\xBD");
  EXPECT_EQ(proto.type(), "tensor");
  EXPECT_EQ(proto.dtype(), "float32");
  EXPECT_THAT(proto.shape(), ::testing::ElementsAre(2, 3));
  EXPECT_THAT(proto.stride(), ::testing::ElementsAre(3, 1));
  EXPECT_EQ(proto.storage_offset(), 5);
  EXPECT_EQ(proto.device(), "cuda:0");
  EXPECT_EQ(proto.size_bytes(), 24);
  EXPECT_TRUE(proto.requires_grad());
  EXPECT_EQ(proto.storage(), 7);
  EXPECT_TRUE(proto.shares_storage());
  EXPECT_EQ(proto.value(), "v");
  EXPECT_EQ(proto.child_count(), 4);
  EXPECT_EQ(ToProto(format::Entry()).storage(), 0) << "no storage is not the number that stands for it";
}

TEST(TreeCodecTest, Totals) {
  const v1::TreeTotals proto = ToProto(format::Totals{1, 2, 3, 4, 5, 6});
  EXPECT_EQ(proto.tensor_count(), 1);
  EXPECT_EQ(proto.element_count(), 2);
  EXPECT_EQ(proto.scalar_count(), 3);
  EXPECT_EQ(proto.tensor_bytes(), 4);
  EXPECT_EQ(proto.storage_count(), 5);
  EXPECT_EQ(proto.storage_bytes(), 6);
}

}  // namespace
}  // namespace sconce::wire
