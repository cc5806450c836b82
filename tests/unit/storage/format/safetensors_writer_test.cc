#include "storage/format/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/safetensors_header.h"
#include "storage/format/safetensors_reader.h"
#include "tests/support/fixtures.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

struct Written {
  std::string file;
  std::vector<std::string> notes;
};

absl::StatusOr<Written> Write(const Manifest& manifest, StorageBytes& bytes, size_t piece = 1000) {
  SCONCE_ASSIGN_OR_RETURN(const auto stream, SafetensorsStream::Create(manifest, bytes));
  Written written{std::string(static_cast<size_t>(stream->size_bytes()), '\0'), stream->notes()};
  auto* data = reinterpret_cast<uint8_t*>(written.file.data());
  for (size_t at = 0; at < written.file.size(); at += piece) {
    SCONCE_RETURN_IF_ERROR(stream->Read(absl::MakeSpan(data + at, std::min(piece, written.file.size() - at))));
  }
  return written;
}

absl::StatusOr<Written> Write(ManifestBuilder& b) {
  SCONCE_RETURN_IF_ERROR(Validate(b.manifest()));
  FileBytes none({});
  return Write(b.manifest(), none);
}

std::string DataFolder() {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  return std::string(source != nullptr ? source : ".") + "/tests/data";
}

void ExpectSameFiles(const std::string& folder) {
  int checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    SCOPED_TRACE(entry.path());
    const std::string file = ReadWholeFile(entry.path());
    ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadCheckpointFile(AsBytes(file)));
    FileBytes bytes(read.bytes);
    ASSERT_OK_AND_ASSIGN(const Written written, Write(read.manifest, bytes, 7));
    EXPECT_EQ(written.file, file);
    EXPECT_THAT(written.notes, IsEmpty());
    ++checked;
  }
  EXPECT_EQ(checked, 3);
}

TEST(SafetensorsStreamTest, FilesOfTheLibraryComeBackByteForByte) {
  ExpectSameFiles(DataFolder() + "/safetensors");
}

TEST(SafetensorsStreamTest, StateDictOfPyTorchKeepsItsTensors) {
  const std::string file = ReadWholeFile(DataFolder() + "/state_dict.pt");
  ASSERT_OK_AND_ASSIGN(const TorchFile before, ReadCheckpointFile(AsBytes(file)));
  FileBytes bytes(before.bytes);
  ASSERT_OK_AND_ASSIGN(const Written written, Write(before.manifest, bytes));
  EXPECT_THAT(written.notes, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const TorchFile after, ReadCheckpointFile(AsBytes(written.file)));
  ASSERT_EQ(after.manifest.tensors.size(), before.manifest.tensors.size());
  const auto find = [](const TorchFile& in, const std::string& name) {
    const Node& root = in.manifest.nodes[in.manifest.root()];
    for (size_t i = 0; i + 1 < root.children.size(); i += 2) {
      if (in.manifest.nodes[root.children[i]].text == name)
        return in.bytes[in.manifest.tensors[in.manifest.nodes[root.children[i + 1]].tensor].storage];
    }
    return ByteSpan();
  };
  for (const char* name : {"conv1.weight", "fc1.weight", "fc3.bias"}) {
    EXPECT_FALSE(find(before, name).empty()) << name;
    EXPECT_EQ(find(before, name), find(after, name)) << name;
  }
}

TEST(SafetensorsStreamTest, TreeBecomesFlat) {
  ManifestBuilder b;
  const auto tensor = [&](const std::string& bytes) {
    return b.Tensor(b.InlineStorage(bytes), DType::kUInt8, {static_cast<int64_t>(bytes.size())});
  };
  const auto model = b.Dict({{b.Str("fc.weight"), tensor("abc")}, {b.Str("a/b~c"), tensor("d")}});
  const auto list = b.List({tensor("ef"), b.Parameter(tensor("g"))});
  const auto state = b.Dict({{b.Int(0), tensor("h")}, {b.Str("lr"), b.Float(0.1)}});
  b.Dict({{b.Str("model"), model},
          {b.Str("list"), list},
          {b.Str("opt"), state},
          {b.Str("epoch"), b.Int(3)},
          {b.Str("done"), b.Bool(true)},
          {b.Str("name"), b.Str("r\xc3\xa9sum\xc3\xa9")},
          {b.Str("nothing"), b.None()}});
  ASSERT_OK_AND_ASSIGN(const Written written, Write(b));
  ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header, ParseSafetensorsHeader(AsBytes(written.file)));
  std::map<std::string, std::string> found;
  for (const auto& entry : header.entries) {
    found[entry.name] = written.file.substr(static_cast<size_t>(header.data_offset + entry.begin),
                                            static_cast<size_t>(entry.end - entry.begin));
  }
  EXPECT_THAT(found, ElementsAre(Pair("list.0", "ef"), Pair("list.1", "g"), Pair("model.a/b~c", "d"),
                                 Pair("model.fc.weight", "abc"), Pair("opt.0", "h")));
  ASSERT_TRUE(header.metadata.has_value());
  EXPECT_THAT(*header.metadata, ElementsAre(Pair("opt.lr", "0.1"), Pair("epoch", "3"), Pair("done", "True"),
                                            Pair("name", "r\xc3\xa9sum\xc3\xa9")));
  EXPECT_THAT(written.notes,
              ElementsAre("1 Parameter is written as plain tensors", "4 scalars are in the file's metadata, as text",
                          "1 value that is no tensor is left out: \"/nothing\""));
}

TEST(SafetensorsStreamTest, MetadataOfAFileThatWasReadGoesFirst) {
  ManifestBuilder b;
  const auto metadata = b.Dict({{b.Str("format"), b.Str("pt")}, {b.Str("epoch"), b.Str("kept")}});
  const auto attributes = b.Dict({{b.Str(kSafetensorsMetadataAttribute), metadata}});
  b.OrderedDict({{b.Str("epoch"), b.Int(3)}}, attributes);
  ASSERT_OK_AND_ASSIGN(const Written written, Write(b));
  ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header, ParseSafetensorsHeader(AsBytes(written.file)));
  EXPECT_THAT(*header.metadata, ElementsAre(Pair("format", "pt"), Pair("epoch", "kept")));
  EXPECT_THAT(written.notes, ElementsAre(HasSubstr("left out: \"/epoch\"")));
}

TEST(SafetensorsStreamTest, ViewsAreWrittenOut) {
  ManifestBuilder b;
  const StorageIndex storage = b.InlineStorage("abcdef");
  TensorView transposed;
  transposed.dtype = DType::kUInt8;
  transposed.storage = storage;
  transposed.shape = {3, 2};
  transposed.stride = {1, 3};
  const auto first = b.Tensor(storage, DType::kUInt8, {2, 3});
  b.Dict({{b.Str("x"), first}, {b.Str("y"), b.View(transposed)}});
  ASSERT_OK_AND_ASSIGN(const Written written, Write(b));
  EXPECT_EQ(written.file.substr(written.file.size() - 12), "abcdefadbecf");
  EXPECT_THAT(written.notes,
              ElementsAre("1 tensor shares its storage with another and has its own copy of the bytes in the file, "
                          "6 B in all",
                          "1 tensor was not contiguous and is written so"));
}

TEST(SafetensorsStreamTest, WideDtypesComeFirstThenNames) {
  ManifestBuilder b;
  b.Dict({{b.Str("b"), b.Tensor(DType::kUInt8, {1})},
          {b.Str("a"), b.Tensor(DType::kUInt8, {1})},
          {b.Str("h"), b.Tensor(DType::kFloat4E2M1FNX2, {3})},
          {b.Str("z"), b.Tensor(DType::kFloat64, {1})},
          {b.Str("c"), b.Tensor(DType::kBFloat16, {1})}});
  ASSERT_OK_AND_ASSIGN(const Written written, Write(b));
  ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header, ParseSafetensorsHeader(AsBytes(written.file)));
  std::string names;
  for (const auto& entry : header.entries) names += entry.name;
  EXPECT_EQ(names, "zcabh");
  EXPECT_EQ(header.entries[4].shape, (Dims{3}));
  EXPECT_THAT(written.file, HasSubstr(R"({"dtype":"F4","shape":[6],)"));
  EXPECT_EQ(header.data_offset % 8, 0);
}

TEST(SafetensorsStreamTest, ReadingGoesOnAnywhere) {
  const std::string file = ReadWholeFile(DataFolder() + "/views_and_ties.pt");
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadCheckpointFile(AsBytes(file)));
  FileBytes bytes(read.bytes);
  ASSERT_OK_AND_ASSIGN(const Written whole, Write(read.manifest, bytes));
  for (size_t at = 0; at <= whole.file.size(); at += 13) {
    ASSERT_OK_AND_ASSIGN(const auto stream, SafetensorsStream::Create(read.manifest, bytes));
    ASSERT_OK(stream->Skip(static_cast<int64_t>(at)));
    std::string rest(whole.file.size() - at, '\0');
    ASSERT_OK(stream->Read(absl::MakeSpan(reinterpret_cast<uint8_t*>(rest.data()), rest.size())));
    ASSERT_EQ(rest, whole.file.substr(at)) << at;
    uint8_t more = 0;
    EXPECT_THAT(stream->Read(absl::MakeSpan(&more, 1)), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
    EXPECT_THAT(stream->Skip(1), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  }
}

TEST(SafetensorsStreamTest, WhatTheFormatCannotHoldIsRefusedWithItsPlace) {
  const auto refused = [](const std::function<NodeIndex(ManifestBuilder&)>& make) {
    ManifestBuilder b;
    const NodeIndex value = make(b);
    b.Dict({{b.Str("a"), b.List({value})}});
    return Write(b).status();
  };
  EXPECT_THAT(refused([](ManifestBuilder& b) {
                return b.SparseCoo({2}, b.Tensor(DType::kInt64, {1, 1}), b.Tensor(DType::kFloat32, {1}));
              }),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("sparse_tensor (at \"/a/0\")")));
  EXPECT_THAT(refused([](ManifestBuilder& b) { return b.Tensor(kNoIndex, DType::kFloat32, {2}); }),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("meta")));
  EXPECT_THAT(refused([](ManifestBuilder& b) { return b.Tensor(DType::kComplex128, {2}); }),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("complex128")));
  EXPECT_THAT(refused([](ManifestBuilder& b) { return b.NumpyArray("<f4", {1}, "abcd"); }),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("numpy_array")));
  EXPECT_THAT(refused([](ManifestBuilder& b) {
                TensorView view;
                view.dtype = DType::kComplex64;
                view.storage = b.Storage(8);
                view.conjugate = true;
                return b.View(view);
              }),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("conj")));
  EXPECT_THAT(refused([](ManifestBuilder& b) {
                return b.Dict({{b.Float(0.5), b.Tensor(DType::kFloat32, {2})}});
              }),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("key")));
  ManifestBuilder list;
  list.List({list.Tensor(DType::kFloat32, {2})});
  EXPECT_THAT(Write(list), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("a list as the root")));
  ManifestBuilder twice;
  const auto inner = twice.Dict({{twice.Str("b"), twice.Tensor(DType::kFloat32, {2})}});
  twice.Dict({{twice.Str("a"), inner}, {twice.Str("a.b"), twice.Tensor(DType::kFloat32, {2})}});
  EXPECT_THAT(Write(twice), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("two tensors of the name \"a.b\"")));
  ManifestBuilder expanded;
  TensorView view;
  view.dtype = DType::kUInt8;
  view.storage = expanded.Storage(1);
  view.shape = {int64_t{1} << 40};
  view.stride = {0};
  expanded.Dict({{expanded.Str("a"), expanded.View(view)}});
  EXPECT_THAT(Write(expanded), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("beyond all measure")));
}

}  // namespace
}  // namespace sconce::format
