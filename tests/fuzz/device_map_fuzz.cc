// Any device mapping, written as lines, applied to a tree with ties, views, sparse parts and a meta tensor. One that is
// refused leaves the manifest as it was; one that is taken leaves a valid manifest in which only tags differ, each one
// that PyTorch takes.
//
//   device D        remap FROM TO        rule PATTERN D        available D        fallback D
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "storage/format/device_map.h"
#include "storage/format/manifest_codec.h"
#include "tests/support/manifest_builder.h"

namespace sconce::format {
namespace {

Manifest Tree() {
  ManifestBuilder b;
  const StorageIndex first = b.Storage(4096, "cuda:0"), second = b.Storage(64, "cpu"), meta = b.Storage(256, "meta");
  const auto weight = b.Tensor(first, DType::kFloat32, {32, 32}), view = b.Tensor(first, DType::kFloat32, {32});
  const auto bias = b.Tensor(second, DType::kFloat32, {16}), shape = b.Tensor(meta, DType::kFloat32, {64});
  const auto list = b.Container(NodeKind::kList, {view, bias, shape});
  const auto inner = b.Dict({{b.Str("a.weight"), weight}, {b.Str("tied"), weight}, {b.Int(0), list}});
  b.Dict({{b.Str("model"), inner}, {b.Str("again"), list}, {b.Str("bias"), bias}});
  return b.Build();
}

DeviceMapping ReadMapping(const std::string& input) {
  DeviceMapping mapping;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(input, '\n'))) {
    std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    words.resize(3);
    if (words[0] == "device") mapping.device = words[1];
    if (words[0] == "remap") mapping.remap.emplace_back(words[1], words[2]);
    if (words[0] == "rule") mapping.rules.push_back({words[1], words[2]});
    if (words[0] == "available") mapping.available.push_back(words[1]);
    if (words[0] == "fallback") mapping.fallback = words[1];
  }
  return mapping;
}

void Check(bool holds) {
  if (!holds) std::abort();
}

void Map(const std::string& input) {
  static const auto* const original = new Manifest(Tree());
  static const auto* const encoded = new std::string(EncodeManifest(*original));
  Manifest manifest = *original;
  const auto mapped = MapDevices(ReadMapping(input), manifest);
  if (!mapped.ok()) return Check(EncodeManifest(manifest) == *encoded);
  Check(Validate(manifest).ok());
  int64_t changed = 0;
  for (size_t i = 0; i < manifest.storages.size(); ++i) {
    std::string& device = manifest.storages[i].device;
    if (device == original->storages[i].device) continue;
    Check(ValidateDevice(device).ok());
    ++changed;
    device = original->storages[i].device;
  }
  int64_t listed = 0;
  for (const MappedDevice& entry : *mapped) listed += entry.storages;
  Check(listed >= changed);
  Check(EncodeManifest(manifest) == *encoded);
}

}  // namespace
}  // namespace sconce::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sconce::format::Map(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
