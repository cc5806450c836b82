#include "storage/format/device_map.h"

#include "storage/format/manifest_codec.h"
#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// {model: {w: cuda:0, tied: same storage, b: cuda:1}, opt: {m: cuda:0, c: cpu}, meta: meta}
Manifest Sample() {
  ManifestBuilder b;
  const StorageIndex w = b.Storage(4096, "cuda:0");
  const NodeIndex model = b.Dict({{b.Str("w"), b.Tensor(w, DType::kFloat32, {1024})},
                                  {b.Str("tied"), b.Tensor(w, DType::kFloat32, {32, 32})},
                                  {b.Str("b"), b.Tensor(DType::kFloat32, {4}, "cuda:1")}});
  const NodeIndex opt = b.Dict({{b.Str("m"), b.Parameter(b.Tensor(DType::kFloat32, {512}, "cuda:0"))},
                                {b.Str("c"), b.Tensor(DType::kFloat32, {1}, "cpu")}});
  b.Dict({{b.Str("model"), model}, {b.Str("opt"), opt}, {b.Str("meta"), b.Tensor(DType::kFloat32, {9999}, "meta")}});
  return b.Build();
}

std::vector<std::string> Devices(const Manifest& manifest) {
  std::vector<std::string> devices;
  for (const Storage& storage : manifest.storages) devices.push_back(storage.device);
  return devices;
}

using Strings = std::vector<std::string>;

TEST(DeviceTest, TakesWhatPyTorchTakes) {
  for (const char* device :
       {"cpu", "cuda", "cuda:0", "cuda:127", "cpu:3", "mps", "xla:1", "meta", "privateuseone:1", "ort"}) {
    EXPECT_OK(ValidateDevice(device)) << device;
  }
  for (const char* device : {"cuda:", "cuda:x", "cuda:-1", "cuda:01", "cuda:0:1", "cuda:128", "cuda:1000", "cuda: 1"}) {
    EXPECT_THAT(ValidateDevice(device), FailsWith(Reason::DEVICE_INVALID, HasSubstr("Invalid device string: '")))
        << device;
  }
  EXPECT_THAT(ValidateDevice(""), FailsWith(Reason::DEVICE_INVALID, "Device string must not be empty"));
  EXPECT_THAT(ValidateDevice("gpu"),
              FailsWith(Reason::DEVICE_INVALID, AllOf(HasSubstr("Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl"),
                                                      HasSubstr("device type at start of device string: gpu"))));
  EXPECT_THAT(ValidateDevice("CUDA"), FailsWith(Reason::DEVICE_INVALID));
}

TEST(DeviceTest, KnowsWhatAReaderHas) {
  const AvailableDevices any(Strings{});
  EXPECT_TRUE(any.Has("cuda:7"));
  const AvailableDevices one(Strings{"cuda:1"});
  EXPECT_TRUE(one.Has("cpu"));
  EXPECT_TRUE(one.Has("cuda"));
  EXPECT_TRUE(one.Has("cuda:1"));
  EXPECT_FALSE(one.Has("cuda:0"));
  EXPECT_FALSE(one.Has("mps"));
  const AvailableDevices all(Strings{"cpu", "cuda"});
  EXPECT_TRUE(all.Has("cuda:5"));
}

TEST(DeviceMapTest, AnEmptyMappingChangesNothing) {
  Manifest manifest = Sample();
  ASSERT_OK_AND_ASSIGN(const auto mapped, MapDevices({}, manifest));
  EXPECT_TRUE(mapped.empty());
  EXPECT_EQ(EncodeManifest(manifest), EncodeManifest(Sample()));
}

TEST(DeviceMapTest, OneDeviceTakesEverythingButMeta) {
  Manifest manifest = Sample();
  DeviceMapping mapping;
  mapping.device = "cpu";
  ASSERT_OK_AND_ASSIGN(const auto mapped, MapDevices(mapping, manifest));
  EXPECT_EQ(Devices(manifest), (Strings{"cpu", "cpu", "cpu", "cpu", "meta"}));
  ASSERT_EQ(mapped.size(), 2u);
  EXPECT_EQ(mapped[0].from, "cuda:0");
  EXPECT_EQ(mapped[0].to, "cpu");
  EXPECT_FALSE(mapped[0].fell_back);
  EXPECT_EQ(mapped[0].storages, 2);
  EXPECT_EQ(mapped[0].bytes, 4096 + 2048);
  EXPECT_EQ(mapped[0].first_path, "/model/w");
  EXPECT_EQ(mapped[1].from, "cuda:1");
  EXPECT_EQ(mapped[1].first_path, "/model/b");
  ASSERT_OK(Validate(manifest));
  ASSERT_OK_AND_ASSIGN(const auto again, MapDevices(mapping, manifest));
  EXPECT_TRUE(again.empty());
}

TEST(DeviceMapTest, TheRemapTableWantsTheExactTag) {
  Manifest manifest = Sample();
  DeviceMapping mapping;
  mapping.remap = {{"cuda:1", "cuda:0"}, {"cuda", "cpu"}, {"cuda:1", "mps"}};
  ASSERT_OK(MapDevices(mapping, manifest));
  EXPECT_EQ(Devices(manifest), (Strings{"cuda:0", "cuda:0", "cuda:0", "cpu", "meta"}));
}

TEST(DeviceMapTest, RulesComeBeforeTheTableAndTheTableBeforeTheDevice) {
  Manifest manifest = Sample();
  DeviceMapping mapping;
  mapping.rules = {{"/opt/m", "cuda:3"}, {"/opt", "cuda:4"}, {"**", "cuda:5"}};
  mapping.rules.pop_back();
  mapping.remap = {{"cuda:1", "mps"}};
  mapping.device = "xpu";
  ASSERT_OK(MapDevices(mapping, manifest));
  EXPECT_EQ(Devices(manifest), (Strings{"xpu", "mps", "cuda:3", "cuda:4", "meta"}));
}

TEST(DeviceMapTest, TheFirstMatchingRuleCountsWhetherWildOrNot) {
  DeviceMapping mapping;
  mapping.rules = {{"/opt/*", "cuda:3"}, {"/opt/m", "cuda:4"}};
  Manifest manifest = Sample();
  ASSERT_OK(MapDevices(mapping, manifest));
  EXPECT_EQ(Devices(manifest)[2], "cuda:3");
  std::swap(mapping.rules[0], mapping.rules[1]);
  manifest = Sample();
  ASSERT_OK(MapDevices(mapping, manifest));
  EXPECT_EQ(Devices(manifest)[2], "cuda:4");
  EXPECT_EQ(Devices(manifest)[3], "cuda:3");
}

TEST(DeviceMapTest, ARuleThatSplitsAStorageIsRefusedNamingBothPlaces) {
  Manifest manifest = Sample();
  DeviceMapping mapping;
  mapping.rules = {{"/model/w", "cuda:3"}, {"/model/tied", "cpu"}};
  const auto split = MapDevices(mapping, manifest);
  EXPECT_THAT(split,
              FailsWith(Reason::DEVICE_RULE_SPLITS_STORAGE,
                        AllOf(HasSubstr("\"/model/w\" and \"/model/tied\" share one storage"), HasSubstr("cuda:3"))));
  EXPECT_EQ(EncodeManifest(manifest), EncodeManifest(Sample()));  // nothing half done

  mapping.rules = {{"/model/tied", "cpu"}};  // the first place goes elsewhere without any rule
  EXPECT_THAT(MapDevices(mapping, manifest), FailsWith(Reason::DEVICE_RULE_SPLITS_STORAGE));
  mapping.rules = {{"/model/tied", "cuda:0"}};  // where the first place is anyway
  EXPECT_OK(MapDevices(mapping, manifest));
  mapping.rules = {{"/model/w", "cpu"}};  // the first place decides for the other, which no rule names
  EXPECT_OK(MapDevices(mapping, manifest));
  EXPECT_EQ(Devices(manifest)[0], "cpu");
}

TEST(DeviceMapTest, FallsBackWhereTheReaderLacksADevice) {
  Manifest manifest = Sample();
  DeviceMapping mapping;
  mapping.available = {"cpu", "cuda:0"};
  mapping.fallback = "cpu";
  ASSERT_OK_AND_ASSIGN(const auto mapped, MapDevices(mapping, manifest));
  EXPECT_EQ(Devices(manifest), (Strings{"cuda:0", "cpu", "cuda:0", "cpu", "meta"}));
  ASSERT_EQ(mapped.size(), 1u);
  EXPECT_EQ(mapped[0].from, "cuda:1");
  EXPECT_TRUE(mapped[0].fell_back);
}

TEST(DeviceMapTest, SaysInTorchsWordsWhatTheReaderLacks) {
  Manifest manifest = Sample();
  DeviceMapping mapping;
  mapping.available = {"cpu"};
  EXPECT_THAT(
      MapDevices(mapping, manifest),
      FailsWith(Reason::DEVICE_UNAVAILABLE,
                AllOf(HasSubstr("Attempting to deserialize object on a CUDA device but torch.cuda.is_available() "
                                "is False. If you are running on a CPU-only machine, please use torch.load with "
                                "map_location=torch.device('cpu') to map your storages to the CPU."),
                      HasSubstr("\"/model/w\""))));
  mapping.available = {"cuda:0"};
  EXPECT_THAT(MapDevices(mapping, manifest),
              FailsWith(Reason::DEVICE_UNAVAILABLE,
                        HasSubstr("on CUDA device 1 but torch.cuda.device_count() is 1. Please use torch.load with")));
  mapping.available = {"cuda"};
  EXPECT_OK(MapDevices(mapping, manifest));
  mapping.device = "mps";
  EXPECT_THAT(MapDevices(mapping, manifest),
              FailsWith(Reason::DEVICE_UNAVAILABLE, HasSubstr("don't know how to restore data location of")));
  EXPECT_EQ(EncodeManifest(manifest), EncodeManifest(Sample()));
}

TEST(DeviceMapTest, RefusesBadMappings) {
  Manifest manifest = Sample();
  const auto map = [&](auto change) {
    DeviceMapping mapping;
    change(mapping);
    return MapDevices(mapping, manifest);
  };
  EXPECT_THAT(map([](auto& m) { m.device = "gpu"; }), FailsWith(Reason::DEVICE_INVALID));
  EXPECT_THAT(map([](auto& m) { m.remap = {{"cuda:0", "gpu"}}; }), FailsWith(Reason::DEVICE_INVALID));
  EXPECT_OK(map([](auto& m) { m.remap = {{"whatever", "cpu"}}; }));
  EXPECT_THAT(map([](auto& m) { m.rules = {{"/a", "gpu"}}; }), FailsWith(Reason::DEVICE_INVALID));
  EXPECT_THAT(map([](auto& m) { m.rules = {{"/a[", "cpu"}}; }), FailsWith(Reason::PATTERN_INVALID));
  EXPECT_THAT(map([](auto& m) { m.available = {"gpu"}; }), FailsWith(Reason::DEVICE_INVALID));
  EXPECT_THAT(map([](auto& m) { m.fallback = "gpu"; }), FailsWith(Reason::DEVICE_INVALID));
  EXPECT_THAT(map([](auto& m) { m.device = "meta"; }), FailsWith(Reason::DEVICE_INVALID, HasSubstr("meta")));
  EXPECT_THAT(map([](auto& m) { m.fallback = "meta:0"; }), FailsWith(Reason::DEVICE_INVALID));
  EXPECT_THAT(map([](auto& m) {
                m.available = {"cpu"};
                m.fallback = "mps";
              }),
              FailsWith(Reason::DEVICE_INVALID, HasSubstr("not among the available")));
}

TEST(DeviceMapTest, StoragesWithoutAPathOfTheirOwnBelongToThePlaceTheyHangOn) {
  ManifestBuilder b;
  const NodeIndex hidden = b.Dict({{b.Str("extra"), b.Tensor(DType::kFloat32, {2}, "cuda:0")}});
  const NodeIndex sparse =
      b.SparseCoo({9}, b.Tensor(DType::kInt64, {1, 1}, "cuda:0"), b.Tensor(DType::kFloat32, {1}, "cuda:0"));
  const NodeIndex model = b.OrderedDict({{b.Str("sparse"), sparse}}, hidden);
  b.Dict({{b.Str("model"), model}});
  DeviceMapping mapping;
  mapping.rules = {{"/model/sparse", "cuda:2"}, {"/model", "cuda:1"}};
  ASSERT_OK_AND_ASSIGN(const auto mapped, MapDevices(mapping, b.manifest()));
  EXPECT_EQ(Devices(b.manifest()), (Strings{"cuda:1", "cuda:2", "cuda:2"}));
  EXPECT_EQ(mapped[0].first_path, "/model");
  EXPECT_EQ(mapped[1].first_path, "/model/sparse");
}

TEST(DeviceMapTest, SharingWithoutEndNeedsRulesToBeAProblem) {
  ManifestBuilder b;
  NodeIndex bomb = b.Tensor(DType::kFloat32, {2}, "cuda:0");
  for (int i = 0; i < 64; ++i) bomb = b.List({bomb, bomb});
  DeviceMapping mapping;
  mapping.device = "cpu";
  ASSERT_OK_AND_ASSIGN(const auto mapped, MapDevices(mapping, b.manifest()));
  EXPECT_EQ(mapped.size(), 1u);
  mapping.rules = {{"**/9", "cpu"}};
  EXPECT_THAT(MapDevices(mapping, b.manifest()), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST(DeviceMapTest, PartsSharedByManyPlacesAreLookedAtOnce) {
  ManifestBuilder b;
  std::vector<NodeIndex> parts;
  for (int i = 0; i < 2000; ++i) parts.push_back(b.Tensor(DType::kFloat32, {2}, "cuda:0"));
  const NodeIndex state = b.List(parts);
  std::vector<NodeIndex> places;
  for (int i = 0; i < 100'000; ++i) {
    Node node;
    node.kind = NodeKind::kTensorSubclass;
    node.text = "my.Tensor";
    node.children = {b.Tuple({}), state};
    places.push_back(b.Add(node));
  }
  b.List(places);
  DeviceMapping mapping;
  mapping.rules = {{"/99999", "cuda:0"}, {"/?", "cuda:0"}};
  EXPECT_OK(MapDevices(mapping, b.manifest()));
}

TEST(DeviceMapTest, EveryStorageOfARandomTreeIsMapped) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    Manifest manifest = RandomManifest(seed).Make();
    const Manifest before = manifest;
    DeviceMapping mapping;
    mapping.rules = {{"**", "cuda:9"}};
    if (seed % 2 == 0) mapping = DeviceMapping{"cuda:9", {}, {}, {}, ""};
    ASSERT_OK_AND_ASSIGN(const auto mapped, MapDevices(mapping, manifest));
    int64_t storages = 0;
    for (const MappedDevice& row : mapped) storages += row.storages;
    for (size_t i = 0; i < manifest.storages.size(); ++i) {
      const bool meta = before.storages[i].device == "meta";
      EXPECT_EQ(manifest.storages[i].device, meta ? "meta" : "cuda:9");
      storages -= meta ? 0 : 1;
    }
    EXPECT_EQ(storages, 0);
  }
}

}  // namespace
}  // namespace sconce::format
