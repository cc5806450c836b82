#include "storage/format/safetensors_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/safetensors_header.h"
#include "storage/format/zip_format.h"
#include "tests/support/fixtures.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string DataFolder() {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  return std::string(source != nullptr ? source : ".") + "/tests/data/safetensors";
}

std::string File(const std::string& header, const std::string& data = "") {
  std::string file;
  AppendLittle(file, header.size(), 8);
  return file + header + data;
}

// name -> value of the root's items.
std::map<std::string, NodeIndex> Items(const Manifest& manifest, const Node& dict) {
  std::map<std::string, NodeIndex> items;
  for (size_t i = 0; i + 1 < dict.children.size(); i += 2)
    items[manifest.nodes[dict.children[i]].text] = dict.children[i + 1];
  return items;
}

void CheckFolder(const std::string& folder) {
  const auto expected = nlohmann::json::parse(ReadWholeFile(folder + "/expected.json"));
  ASSERT_GE(expected.size(), 3u);
  for (const auto& [name, entry] : expected.items()) {
    SCOPED_TRACE(name);
    const std::string file = ReadWholeFile(folder + "/" + name);
    ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadCheckpointFile(AsBytes(file)));
    const Manifest& manifest = read.manifest;
    const Node& root = manifest.nodes[manifest.root()];
    EXPECT_EQ(root.kind, NodeKind::kOrderedDict);
    const auto items = Items(manifest, root);
    EXPECT_EQ(items.size(), entry.at("tensors").size());
    for (const auto& [tensor, facts] : entry.at("tensors").items()) {
      ASSERT_EQ(items.count(tensor), 1u) << tensor;
      const TensorView& view = manifest.tensors[manifest.nodes[items.at(tensor)].tensor];
      EXPECT_EQ(std::string(ToStd(DTypeName(view.dtype))), facts.at("dtype"));
      EXPECT_EQ(std::vector<int64_t>(view.shape.begin(), view.shape.end()),
                facts.at("shape").get<std::vector<int64_t>>());
      EXPECT_EQ(ToHex(Sha256(read.bytes[view.storage]).bytes), facts.at("sha256")) << tensor;
    }
    EXPECT_EQ(root.children.size() % 2 == 1, !entry.at("metadata").is_null());
    if (entry.at("metadata").is_null()) continue;
    const auto attributes = Items(manifest, manifest.nodes[root.children.back()]);
    const auto metadata = Items(manifest, manifest.nodes[attributes.at(kSafetensorsMetadataAttribute)]);
    EXPECT_EQ(metadata.size(), entry.at("metadata").size());
    for (const auto& [key, value] : entry.at("metadata").items())
      EXPECT_EQ(manifest.nodes[metadata.at(key)].text, value.get<std::string>());
  }
}

TEST(SafetensorsReaderTest, FilesOfTheLibraryReadAsItSawThem) {
  CheckFolder(DataFolder());
}

TEST(SafetensorsReaderTest, SharedFixturesReadAsTheLibrarySawThem) {
  const std::string fixtures = SharedFixtures();
  if (fixtures.empty()) GTEST_SKIP() << "the shared fixtures are not beside this checkout (SCONCE_SHARED_DIR)";
  CheckFolder(fixtures + "/safetensors");
}

constexpr char kOne[] = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";

TEST(SafetensorsReaderTest, OrderOfFieldsAndWhiteSpaceDoNotMatter) {
  EXPECT_OK(ReadCheckpointFile(AsBytes(File(kOne, "1234"))));
  EXPECT_OK(ReadCheckpointFile(AsBytes(File(std::string(kOne) + "  \n", "1234"))));
  EXPECT_OK(ReadCheckpointFile(
      AsBytes(File(R"({ "a" : { "data_offsets" : [ 0 , 4 ] , "shape" : [ 1 ] , "dtype" : "F32" } })", "1234"))));
  EXPECT_OK(ReadCheckpointFile(AsBytes(File("{}"))));
  EXPECT_OK(ReadCheckpointFile(AsBytes(File(R"({"__metadata__":null})"))));
}

TEST(SafetensorsReaderTest, FourBitNumbersComeInPairs) {
  ASSERT_OK_AND_ASSIGN(
      const TorchFile read,
      ReadCheckpointFile(AsBytes(File(R"({"a":{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}})", "1234"))));
  EXPECT_EQ(read.manifest.tensors.at(0).dtype, DType::kFloat4E2M1FNX2);
  EXPECT_EQ(read.manifest.tensors.at(0).shape, (Dims{2, 2}));
  EXPECT_THAT(ReadCheckpointFile(AsBytes(File(R"({"a":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}})", "123"))),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("odd")));
}

TEST(SafetensorsReaderTest, BadHeadersAreNamed) {
  const struct {
    const char* header;
    size_t data_bytes;
    Reason reason;
    const char* says;
  } cases[] = {
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)", 4, Reason::FILE_MALFORMED, "byte"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 0, Reason::FILE_MALFORMED, "lacks a field"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, Reason::FILE_MALFORMED, "two numbers"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4, Reason::FILE_MALFORMED, "more than 2"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4, Reason::FILE_UNSUPPORTED, "\"x\""},
      {R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3, Reason::FILE_UNSUPPORTED, "F6_E2M3"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, Reason::FILE_MALFORMED, "twice"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, Reason::FILE_MALFORMED, "8 bytes"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0, Reason::FILE_MALFORMED,
       "overflows"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, Reason::FILE_MALFORMED, "starts at byte 1"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, Reason::FILE_MALFORMED, "\"b\""},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1, Reason::FILE_TRUNCATED, "2 bytes"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3, Reason::FILE_MALFORMED, "follow"},
      {R"({"__metadata__":{"a":1}})", 0, Reason::FILE_MALFORMED, "'\"'"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", 0, Reason::FILE_MALFORMED, "twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, Reason::FILE_MALFORMED, "twice"},
      {R"({}{})", 0, Reason::FILE_MALFORMED, "follows"},
  };
  for (const auto& one : cases) {
    EXPECT_THAT(ReadCheckpointFile(AsBytes(File(one.header, std::string(one.data_bytes, 'x')))),
                FailsWith(one.reason, HasSubstr(one.says)))
        << one.header;
  }
  std::string shape = "1";
  for (size_t i = 0; i < kMaxRank; ++i) shape += ",1";
  EXPECT_THAT(ReadCheckpointFile(AsBytes(
                  File(absl::StrCat(R"({"a":{"dtype":"U8","shape":[)", shape, R"(],"data_offsets":[0,1]}})"), "x"))),
              FailsWith(Reason::FILE_MALFORMED, HasSubstr("64")));
}

TEST(SafetensorsReaderTest, LengthIsHeldAgainstTheLimitAndTheFile) {
  std::string file = File(kOne, "1234");
  file[3] = 0x7f;
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file)), FailsWith(Reason::FILE_MALFORMED, HasSubstr("100000000")));
  file[3] = 0x01;
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file)), FailsWith(Reason::FILE_TRUNCATED));
}

TEST(SafetensorsReaderTest, EveryTruncationIsAnErrorAndEveryFlipHarmless) {
  const std::string file = ReadWholeFile(DataFolder() + "/small.safetensors");
  ASSERT_FALSE(file.empty());
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_THAT(ReadCheckpointFile(AsBytes(file.substr(0, length))), Not(IsOk())) << length;
  for (size_t at = 0; at < file.size(); ++at) {
    for (const int flip : {0x01, 0x10, 0xff}) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      const auto read = ReadCheckpointFile(AsBytes(damaged));
      if (!read.ok()) {
        EXPECT_TRUE(GetErrorDetail(read.status()).has_value()) << at;
      }
    }
  }
}

}  // namespace
}  // namespace sconce::format
