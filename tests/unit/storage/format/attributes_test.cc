#include "storage/format/attributes.h"

#include <cmath>
#include <cstring>

#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

std::string Raw(double value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

template <typename Make>
TreeAttributes Of(Make make) {
  ManifestBuilder b;
  std::vector<std::pair<NodeIndex, NodeIndex>> items;
  for (const auto& [key, value] : make(b)) items.emplace_back(b.Str(key), value);
  b.Dict(items);
  EXPECT_OK(Validate(b.manifest()));
  return ExtractAttributes(b.manifest());
}

using Items = std::vector<std::pair<std::string, NodeIndex>>;

TEST(AttributesTest, ReadsPlainNumbers) {
  const TreeAttributes found = Of([](auto& b) {
    return Items{{"epoch", b.Int(3)},
                 {"global_step", b.Int(1200)},
                 {"loss", b.Float(0.25)},
                 {"metrics", b.Dict({{b.Str("accuracy"), b.Float(0.9)}, {b.Str("count"), b.Int(7)}})}};
  });
  EXPECT_EQ(found.epoch, 3);
  EXPECT_EQ(found.step, 1200);
  EXPECT_THAT(found.metrics, ElementsAre(Pair("accuracy", 0.9), Pair("count", 7), Pair("loss", 0.25)));
}

TEST(AttributesTest, StepComesBeforeGlobalStepAndTheTopLevelLossBeforeTheMetric) {
  const TreeAttributes found = Of([](auto& b) {
    return Items{{"global_step", b.Int(1)},
                 {"step", b.Int(2)},
                 {"loss", b.Float(1)},
                 {"metrics", b.Dict({{b.Str("loss"), b.Float(2)}})}};
  });
  EXPECT_EQ(found.step, 2);
  EXPECT_THAT(found.metrics, ElementsAre(Pair("loss", 1)));
}

TEST(AttributesTest, ReadsTensorsAndNumpy) {
  const TreeAttributes found = Of([](auto& b) {
    const NodeIndex loss = b.Tensor(b.InlineStorage(Raw(0.5), "cuda:0"), DType::kFloat64, {});
    const NodeIndex step = b.Tensor(b.InlineStorage(std::string("\x07\0\0\0", 4)), DType::kInt32, {1});
    return Items{{"loss", loss},
                 {"step", step},
                 {"epoch", b.NumpyScalar("<f8", Raw(4))},
                 {"metrics", b.Dict({{b.Str("np"), b.NumpyArray("<f8", {1}, Raw(-1))}})}};
  });
  EXPECT_EQ(found.epoch, 4);
  EXPECT_EQ(found.step, 7);
  EXPECT_THAT(found.metrics, ElementsAre(Pair("loss", 0.5), Pair("np", -1)));
}

TEST(AttributesTest, NotANumberIsKeptAsAMetricOnly) {
  const TreeAttributes found = Of([](auto& b) { return Items{{"loss", b.Float(NAN)}, {"epoch", b.Float(NAN)}}; });
  EXPECT_FALSE(found.epoch.has_value());
  ASSERT_EQ(found.metrics.size(), 1u);
  EXPECT_TRUE(std::isnan(found.metrics.at("loss")));
}

TEST(AttributesTest, WhatDoesNotFitIsIgnored) {
  const TreeAttributes found = Of([](auto& b) {
    return Items{{"epoch", b.Bool(true)},
                 {"step", b.Float(1.5)},
                 {"loss", b.Tensor(DType::kFloat32, {2})},
                 {"metrics", b.Dict({{b.Str("name"), b.Str("adam")},
                                     {b.Int(3), b.Float(1)},
                                     {b.Str(""), b.Float(1)},
                                     {b.Str(std::string(300, 'x')), b.Float(1)},
                                     {b.Str("\xED\xA0\x80"), b.Float(1)},
                                     {b.Str("big"), b.BigInt(std::string(9, '\x7F'))}})}};
  });
  EXPECT_FALSE(found.epoch.has_value());
  EXPECT_FALSE(found.step.has_value());
  EXPECT_THAT(found.metrics, IsEmpty());
}

TEST(AttributesTest, OtherRootsHaveNone) {
  ManifestBuilder list;
  list.List({list.Int(1)});
  EXPECT_FALSE(ExtractAttributes(list.manifest()).epoch.has_value());
  ManifestBuilder metrics;
  metrics.Dict({{metrics.Str("metrics"), metrics.List({metrics.Float(1)})}});
  EXPECT_THAT(ExtractAttributes(metrics.manifest()).metrics, IsEmpty());
  for (uint32_t seed = 0; seed < 50; ++seed) ExtractAttributes(RandomManifest(seed).Make());
}

}  // namespace
}  // namespace sconce::format
