#include "storage/format/torch_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "base/error.h"
#include "storage/format/latin1.h"
#include "storage/format/manifest_codec.h"
#include "storage/format/zip_format.h"
#include "storage/format/zip_reader.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

// Bytes that depend on storage and offset; fails after `fail_after` bytes.
class PatternBytes : public StorageBytes {
 public:
  absl::Status Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    given_ += static_cast<int64_t>(out.size());
    if (given_ > fail_after) return MakeError(Reason::CHUNK_CORRUPT, "a bad chunk");
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<uint8_t>((offset + static_cast<int64_t>(i)) * 7 + storage);
    return absl::OkStatus();
  }
  int64_t fail_after = INT64_MAX;

 private:
  int64_t given_ = 0;
};

Manifest Sample() {
  ManifestBuilder b;
  const StorageIndex bulk = b.Storage(100'000, "cuda:0");
  b.Dict({{b.Str("epoch"), b.Int(7)},
          {b.Str("weight"), b.Tensor(bulk, DType::kFloat32, {25'000})},
          {b.Str("small"), b.Tensor(b.InlineStorage("abcdefgh"), DType::kInt64, {1})},
          {b.Str("empty"), b.Tensor(DType::kFloat32, {0})},
          {b.Str("tail"), b.Tensor(bulk, DType::kFloat32, {5})}});
  return b.Build();
}

TEST(TorchFileStreamTest, RoundTrip) {
  const Manifest manifest = Sample();
  PatternBytes pattern;
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(manifest, pattern));
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadTorchFile(AsBytes(file)));
  ASSERT_EQ(read.manifest.storages.size(), 3u);
  EXPECT_EQ(read.manifest.storages[0].device, "cuda:0");
  ASSERT_EQ(read.bytes[0].size(), 100'000u);
  std::vector<uint8_t> expected(100'000);
  ASSERT_OK(pattern.Read(0, 0, absl::MakeSpan(expected)));
  EXPECT_EQ(read.bytes[0], ByteSpan(expected));
  EXPECT_EQ(read.manifest.storages[1].inline_bytes, "abcdefgh");
  for (const ByteSpan bytes : read.bytes) {
    const int64_t at = bytes.empty() ? 0 : bytes.data() - reinterpret_cast<const uint8_t*>(file.data());
    EXPECT_EQ(at % 64, 0) << "mapped tensors want to be aligned";
  }
}

TEST(TorchFileStreamTest, RecordsAreInPyTorchsOrder) {
  const Manifest manifest = Sample();
  PatternBytes pattern;
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(manifest, pattern));
  ASSERT_OK_AND_ASSIGN(const ZipReader zip, ZipReader::Open(AsBytes(file)));
  std::vector<std::string> names;
  for (const ZipRecord& record : zip.records()) names.emplace_back(ToStd(record.name));
  EXPECT_THAT(names, ::testing::ElementsAre("archive/data.pkl", "archive/.format_version", "archive/.storage_alignment",
                                            "archive/byteorder", "archive/data/0", "archive/data/1", "archive/data/2",
                                            "archive/version", "archive/.data/serialization_id"));
  ASSERT_OK_AND_ASSIGN(const ByteSpan id, ReadRecord(zip.records().back()));
  EXPECT_EQ(id.size(), 40u);
}

TEST(TorchFileStreamTest, BytesDoNotDependOnThePieces) {
  const Manifest manifest = Sample();
  PatternBytes pattern;
  ASSERT_OK_AND_ASSIGN(const std::string whole, WriteTorchFile(manifest, pattern, size_t{1} << 30));
  for (const size_t piece : {1, 7, 64, 4096, 99'999}) {
    ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(manifest, pattern, piece));
    EXPECT_TRUE(file == whole) << piece;
  }
}

TEST(TorchFileStreamTest, SkippingResumesAnywhere) {
  const Manifest manifest = Sample();
  PatternBytes pattern;
  ASSERT_OK_AND_ASSIGN(const std::string whole, WriteTorchFile(manifest, pattern));
  for (const size_t at : {size_t{0}, size_t{1}, size_t{50'000}, whole.size() - 30, whole.size()}) {
    ASSERT_OK_AND_ASSIGN(const auto stream, TorchFileStream::Create(manifest, pattern));
    ASSERT_OK(stream->Skip(static_cast<int64_t>(at)));
    EXPECT_EQ(stream->position(), static_cast<int64_t>(at));
    std::string rest(whole.size() - at, '\0');
    ASSERT_OK(stream->Read(absl::MakeSpan(reinterpret_cast<uint8_t*>(rest.data()), rest.size())));
    EXPECT_TRUE(rest == whole.substr(at)) << at;
    EXPECT_EQ(stream->position(), stream->size_bytes());
  }
}

// Two numpy arrays too large for the manifest, one of them twice.
Manifest WithArrays() {
  ManifestBuilder b;
  const auto data = [&](int64_t size) {
    Node node;
    node.kind = NodeKind::kStorage;
    node.integer = b.Storage(size);
    node.text = "uint8";
    return b.Add(node);
  };
  const auto array = [&](const Dims& shape, NodeIndex bytes) {
    return b.Container(NodeKind::kNumpyArray, {b.Str("|u1"), b.IntTuple(shape), b.Bool(false), bytes});
  };
  const NodeIndex twice = data(70'000);
  b.List({array({70'000}, twice), b.Tensor(DType::kFloat32, {1'000}), array({2'000}, data(2'000)),
          array({7, 10'000}, twice)});
  return b.Build();
}

TEST(TorchFileStreamTest, NumpyArraysAreStreamedIntoThePickle) {
  const Manifest manifest = WithArrays();
  ASSERT_OK(Validate(manifest));
  PatternBytes pattern;
  ASSERT_OK_AND_ASSIGN(const std::string whole, WriteTorchFile(manifest, pattern, size_t{1} << 30));
  for (const size_t piece : {1, 7, 4096, 65'537}) {
    ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(manifest, pattern, piece));
    EXPECT_TRUE(file == whole) << piece;
  }
  ASSERT_OK_AND_ASSIGN(const ZipReader zip, ZipReader::Open(AsBytes(whole)));
  ASSERT_EQ(zip.records().size(), 7u) << "a record for the tensor's storage only";
  ASSERT_OK_AND_ASSIGN(const ByteSpan pickle, ReadRecord(zip.records()[0]));
  for (const auto& [storage, size] : {std::pair<StorageIndex, size_t>{0, 70'000}, {2, 2'000}}) {
    std::vector<uint8_t> bytes(size);
    ASSERT_OK(pattern.Read(storage, 0, absl::MakeSpan(bytes)));
    std::string text = "X";
    AppendLittle(text, Latin1Utf8Bytes(bytes), 4);
    AppendLatin1Utf8(bytes, text);
    const size_t at = AsText(pickle).find(text);
    ASSERT_NE(at, absl::string_view::npos) << storage;
    EXPECT_EQ(AsText(pickle).find(text, at + 1), absl::string_view::npos) << "what is there twice is written once";
  }
}

TEST(TorchFileStreamTest, AnArrayThatChangesMeanwhileIsNoticed) {
  class Changing : public PatternBytes {
   public:
    absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t> out) override {
      std::fill(out.begin(), out.end(), filler);
      return absl::OkStatus();
    }
    uint8_t filler = 0;
  };
  const Manifest manifest = WithArrays();
  Changing bytes;
  ASSERT_OK_AND_ASSIGN(const auto stream, TorchFileStream::Create(manifest, bytes));
  bytes.filler = 0xff;
  EXPECT_THAT(stream->Skip(stream->size_bytes()), FailsWith(Reason::IO_ERROR, HasSubstr("changed")));
  EXPECT_THAT(stream->Skip(1), FailsWith(Reason::IO_ERROR, HasSubstr("changed")));
}

TEST(TorchFileStreamTest, AFileOfMoreBytesThanCanBeCountedIsRefused) {
  ManifestBuilder b;
  std::vector<NodeIndex> storages;
  for (int i = 0; i < 4; ++i) {
    Node node;
    node.kind = NodeKind::kStorage;
    node.text = "uint8";
    node.integer = b.Storage(INT64_MAX / 3, "meta");
    storages.push_back(b.Add(node));
  }
  b.List(storages);
  ASSERT_OK(Validate(b.manifest()));
  PatternBytes pattern;
  EXPECT_THAT(TorchFileStream::Create(b.manifest(), pattern),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("meta storages")));
}

TEST(TorchFileStreamTest, ReadingPastTheEndIsRefusedAndHarmless) {
  const Manifest manifest = Sample();
  PatternBytes pattern;
  ASSERT_OK_AND_ASSIGN(const auto stream, TorchFileStream::Create(manifest, pattern));
  std::vector<uint8_t> out(static_cast<size_t>(stream->size_bytes()) + 1);
  EXPECT_THAT(stream->Read(absl::MakeSpan(out)), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_THAT(stream->Skip(-1), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_THAT(stream->Skip(stream->size_bytes() + 1), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_OK(stream->Read(absl::MakeSpan(out).subspan(1)));
}

TEST(TorchFileStreamTest, FailureOfTheBytesIsRepeated) {
  const Manifest manifest = Sample();
  PatternBytes pattern;
  pattern.fail_after = 10'000;
  ASSERT_OK_AND_ASSIGN(const auto stream, TorchFileStream::Create(manifest, pattern));
  EXPECT_THAT(stream->Skip(stream->size_bytes()), FailsWith(Reason::CHUNK_CORRUPT));
  pattern.fail_after = INT64_MAX;
  uint8_t byte = 0;
  EXPECT_THAT(stream->Read(absl::MakeSpan(&byte, 1)), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(TorchFileStreamTest, KnownChunksDecideTheSerializationId) {
  Manifest manifest = Sample();
  PatternBytes pattern;
  manifest.storages[0].chunks.resize(1);
  ASSERT_OK_AND_ASSIGN(const std::string one, WriteTorchFile(manifest, pattern));
  manifest.storages[0].chunks[0].sha256.bytes[0] = 1;
  ASSERT_OK_AND_ASSIGN(const std::string other, WriteTorchFile(manifest, pattern));
  EXPECT_EQ(one.size(), other.size());
  EXPECT_FALSE(one == other);
}

TEST(TorchFileStreamTest, HundredThousandTensorsGoOutAndIn) {
  constexpr int kTensors = 100'000;
  ManifestBuilder b;
  ManifestBuilder::Items items;
  for (int i = 0; i < kTensors; ++i) {
    const NodeIndex name = b.Str("layers." + std::to_string(i) + ".weight");
    const StorageIndex storage = b.InlineStorage(std::string(16, static_cast<char>(i)));
    items.emplace_back(name, b.Tensor(storage, DType::kFloat32, {2, 2}));
  }
  b.OrderedDict(items);
  const Manifest manifest = b.Build();
  PatternBytes unused;
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(manifest, unused, size_t{1} << 20));
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadTorchFile(AsBytes(file)));
  EXPECT_EQ(read.manifest.tensors.size(), static_cast<size_t>(kTensors));
  EXPECT_TRUE(EncodeManifest(read.manifest) == EncodeManifest(manifest));
}

// Zeros, so that the file can be sparse.
class ZeroBytes : public StorageBytes {
 public:
  absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t> out) override {
    std::fill(out.begin(), out.end(), uint8_t{0});
    return absl::OkStatus();
  }
};

TEST(TorchFileStreamTest, StoragesOfMoreThan4GiB) {
  ManifestBuilder b;
  constexpr int64_t kLarge = (int64_t{4} << 30) + 4096;
  b.Tuple({b.Tensor(DType::kUInt8, {kLarge}), b.Tensor(b.InlineStorage("after the large one"), DType::kUInt8, {19})});
  const Manifest manifest = b.Build();
  ZeroBytes zeros;
  ASSERT_OK_AND_ASSIGN(const auto stream, TorchFileStream::Create(manifest, zeros));
  // Memory that is never written to costs none.
  const auto size = static_cast<size_t>(stream->size_bytes());
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const absl::Cleanup unmap = [&] { ::munmap(memory, size); };
  auto* file = static_cast<uint8_t*>(memory);
  std::vector<uint8_t> piece(size_t{1} << 20);
  const std::vector<uint8_t> zero_piece(piece.size());
  while (stream->position() < stream->size_bytes()) {
    const auto at = static_cast<size_t>(stream->position());
    const auto out = absl::MakeSpan(piece).subspan(0, std::min(size - at, piece.size()));
    ASSERT_OK(stream->Read(out));
    if (std::memcmp(out.data(), zero_piece.data(), out.size()) != 0) std::memcpy(file + at, out.data(), out.size());
  }
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadTorchFile(ByteSpan(file, size)));
  EXPECT_EQ(read.manifest.storages.at(0).size_bytes, kLarge);
  EXPECT_EQ(read.manifest.storages.at(1).inline_bytes, "after the large one");
}

}  // namespace
}  // namespace sconce::format
