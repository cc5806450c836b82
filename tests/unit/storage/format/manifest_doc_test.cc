// Holds the worked example of docs/formats/manifest.md against the codec, so that whoever writes a decoder from that
// page can trust it.

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "storage/format/manifest_codec.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

// The bytes of the page's one ```hex block: pairs of digits up to the comment that starts with "#".
std::string ExampleBytes() {
  const char* source = std::getenv("SCONCE_SOURCE_DIR");
  std::ifstream page(std::string(source != nullptr ? source : ".") + "/docs/formats/manifest.md");
  EXPECT_TRUE(page.good());
  std::string digits;
  std::string line;
  bool inside = false;
  while (std::getline(page, line)) {
    if (line == "```hex" || line == "```") {
      inside = line == "```hex";
    } else if (inside) {
      std::istringstream words(line.substr(0, line.find('#')));
      for (std::string word; words >> word;) digits += word;
    }
  }
  std::string bytes;
  EXPECT_TRUE(FromHex(digits, bytes)) << digits;
  return bytes;
}

// {"epoch": 3, "w": torch.tensor([1.0, 2.0], device="cuda:0"), "big": nn.Parameter of 2,000 bytes, "tied": the same
// object}
Manifest Example() {
  ManifestBuilder b;
  const NodeIndex epoch_key = b.Str("epoch");
  const NodeIndex epoch = b.Int(3);
  const NodeIndex w_key = b.Str("w");
  const NodeIndex w =
      b.Tensor(b.InlineStorage(std::string("\0\0\x80\x3F\0\0\0\x40", 8), "cuda:0"), DType::kFloat32, {2});
  const NodeIndex big_key = b.Str("big");
  TensorView transposed;
  transposed.dtype = DType::kFloat16;
  transposed.requires_grad = true;
  transposed.storage = b.Storage(2000, "cuda:0");
  transposed.shape = {50, 20};
  transposed.stride = {1, 50};
  const NodeIndex big = b.Parameter(b.View(transposed));
  const NodeIndex tied_key = b.Str("tied");
  b.Dict({{epoch_key, epoch}, {w_key, w}, {big_key, big}, {tied_key, big}});
  Manifest manifest = b.Build();
  manifest.storages[1].chunks.resize(1);
  for (size_t i = 0; i < 32; ++i) manifest.storages[1].chunks[0].sha256.bytes[i] = static_cast<uint8_t>(0xA0 + i);
  for (size_t i = 0; i < 16; ++i) manifest.storages[1].chunks[0].xxh3.bytes[i] = static_cast<uint8_t>(0xE0 + i);
  return manifest;
}

TEST(ManifestDocTest, TheExampleOfThePageIsWhatIsWritten) {
  EXPECT_EQ(ToHex(AsBytes(ExampleBytes())), ToHex(AsBytes(EncodeManifest(Example()))));
}

TEST(ManifestDocTest, TheExampleOfThePageCanBeRead) {
  const std::string bytes = ExampleBytes();
  ASSERT_OK_AND_ASSIGN(const Manifest manifest, DecodeManifest(AsBytes(bytes)));
  EXPECT_EQ(manifest.nodes.size(), 9u);
  EXPECT_EQ(manifest.tensors[1].stride, (Dims{1, 50}));
  EXPECT_EQ(manifest.nodes.back().children[5], manifest.nodes.back().children[7]);
}

}  // namespace
}  // namespace sconce::format
