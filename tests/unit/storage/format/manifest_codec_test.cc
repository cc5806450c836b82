#include "storage/format/manifest_codec.h"

#include <chrono>
#include <random>

#include "storage/format/byte_codec.h"
#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<Manifest> Decode(const std::string& bytes) {
  return DecodeManifest(AsBytes(bytes));
}

TEST(ByteCodecTest, IntsTakeAsFewBytesAsTheyCan) {
  EXPECT_EQ(IntBytes(0), "");
  EXPECT_EQ(IntBytes(1), "\x01");
  EXPECT_EQ(IntBytes(-1), "\xFF");
  EXPECT_EQ(IntBytes(127), "\x7F");
  EXPECT_EQ(IntBytes(128), std::string("\x80\x00", 2));
  EXPECT_EQ(IntBytes(-129), "\x7F\xFF");
  for (const int64_t value : {INT64_MIN, INT64_MAX, int64_t{-128}, int64_t{255}, int64_t{256}, int64_t{-32768}}) {
    EXPECT_EQ(IntFromBytes(IntBytes(value)), value);
    EXPECT_TRUE(IsShortestInt(IntBytes(value)));
  }
}

TEST(ByteCodecTest, RefusesNumbersWrittenInAnotherWay) {
  const auto varint = [](const std::string& bytes) {
    ByteReader reader(AsBytes(bytes));
    uint64_t value = 0;
    return reader.Varint("n", value);
  };
  EXPECT_OK(varint(std::string(1, '\0')));
  EXPECT_OK(varint("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"));
  EXPECT_THAT(varint("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02"), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(varint(std::string("\x80\x00", 2)), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("longer than needed")));
  EXPECT_THAT(varint("\x80"), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("ends inside")));
  EXPECT_THAT(varint(""), FailsWith(Reason::MANIFEST_INVALID));
}

TEST(ManifestCodecTest, EveryManifestComesBackFromItsOneEncoding) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    RandomManifest random(seed);
    Manifest manifest = random.Make();
    if (seed % 2 == 0) random.GiveChunks(manifest);
    manifest.derived = seed % 3 == 0;
    const std::string bytes = EncodeManifest(manifest);
    ASSERT_OK_AND_ASSIGN(const Manifest decoded, Decode(bytes));
    ASSERT_EQ(EncodeManifest(decoded), bytes) << "seed " << seed;
    ASSERT_EQ(decoded.nodes.size(), manifest.nodes.size());
    ASSERT_EQ(decoded.derived, manifest.derived);
    for (size_t i = 0; i < manifest.nodes.size(); ++i) {
      ASSERT_EQ(decoded.nodes[i].kind, manifest.nodes[i].kind);
      ASSERT_EQ(decoded.nodes[i].text, manifest.nodes[i].text);
      ASSERT_EQ(decoded.nodes[i].integer, manifest.nodes[i].integer);
      ASSERT_EQ(decoded.nodes[i].children, manifest.nodes[i].children);
      ASSERT_EQ(decoded.nodes[i].tensor, manifest.nodes[i].tensor);
    }
    for (size_t i = 0; i < manifest.tensors.size(); ++i) {
      ASSERT_EQ(decoded.tensors[i].dtype, manifest.tensors[i].dtype);
      ASSERT_EQ(decoded.tensors[i].shape, manifest.tensors[i].shape);
      ASSERT_EQ(decoded.tensors[i].stride, manifest.tensors[i].stride);
      ASSERT_EQ(decoded.tensors[i].offset, manifest.tensors[i].offset);
      ASSERT_EQ(decoded.tensors[i].storage, manifest.tensors[i].storage);
    }
    for (size_t i = 0; i < manifest.storages.size(); ++i) {
      ASSERT_EQ(decoded.storages[i].device, manifest.storages[i].device);
      ASSERT_EQ(decoded.storages[i].size_bytes, manifest.storages[i].size_bytes);
      ASSERT_EQ(decoded.storages[i].inline_bytes, manifest.storages[i].inline_bytes);
      ASSERT_EQ(decoded.storages[i].chunks.size(), manifest.storages[i].chunks.size());
    }
  }
}

TEST(ManifestCodecTest, WhateverItAcceptsIsTheOneEncoding) {
  std::mt19937 random(1);
  int accepted = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const std::string bytes = EncodeManifest(RandomManifest(seed).Make());
    for (int i = 0; i < 40; ++i) {
      std::string damaged = bytes;
      damaged[random() % damaged.size()] = static_cast<char>(random());
      const auto decoded = Decode(damaged);
      if (!decoded.ok()) continue;
      ++accepted;
      ASSERT_EQ(EncodeManifest(*decoded), damaged);
    }
  }
  EXPECT_GT(accepted, 100);  // text and numbers changed in place
}

TEST(ManifestCodecTest, EveryTruncationIsRefused) {
  RandomManifest random(7);
  Manifest manifest = random.Make();
  random.GiveChunks(manifest);
  const std::string bytes = EncodeManifest(manifest);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(Decode(bytes.substr(0, size)), FailsWith(Reason::MANIFEST_INVALID)) << size;
  }
  EXPECT_THAT(Decode(bytes + "x"), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("after the manifest's end")));
}

TEST(ManifestCodecTest, RefusesForeignBytesAndNewerVersions) {
  ManifestBuilder b;
  b.None();
  const std::string bytes = EncodeManifest(b.manifest());
  EXPECT_THAT(Decode(""), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("not a manifest")));
  EXPECT_THAT(Decode("PK\3\4 and so on"), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("not a manifest")));
  std::string changed = bytes;
  changed[7] = 2;
  EXPECT_THAT(Decode(changed), FailsWith(Reason::MANIFEST_VERSION_UNSUPPORTED, HasSubstr("version 2")));
  changed = bytes;
  changed[8] = 4;
  EXPECT_THAT(Decode(changed), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("flags at byte 8")));
  changed[8] = 2;
  EXPECT_THAT(Decode(changed), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("chunk table")));
}

TEST(ManifestCodecTest, CountsThatLieAreRefusedBeforeMemoryIsTaken) {
  const std::string header = std::string("SCMANIF\x01\x00", 9);
  EXPECT_THAT(Decode(header + std::string("\0\0\xFF\xFF\xFF\x7F\0", 7)), FailsWith(Reason::MANIFEST_INVALID));
  EXPECT_THAT(Decode(header + std::string("\x02\x02\x02\0\0\0\0\0\0\0\0\0", 12)), FailsWith(Reason::MANIFEST_INVALID));
  std::string many = header + std::string(2, '\0');
  PutVarint(kMaxNodes + 1, many);
  many.append(3 * kMaxNodes, '\0');
  EXPECT_THAT(Decode(many), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  // A storage that claims a chunk table of exabytes.
  std::string chunks = std::string("SCMANIF\x01\x02\x01\x01\x01", 12);
  PutVarint(INT64_MAX, chunks);
  PutText("cpu", chunks);
  chunks += std::string("\x09\x10\0\0\0", 5);  // uint8, contiguous, storage 0, offset 0, rank 0
  chunks += std::string("\x15\0", 2);
  EXPECT_THAT(Decode(chunks), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("cannot fit")));
}

TEST(ManifestCodecTest, WritesNothingTwoWays) {
  // A device repeated instead of left out, and contiguous strides written out.
  ManifestBuilder b;
  b.List({b.Tensor(DType::kUInt8, {1}), b.Tensor(DType::kUInt8, {1})});
  std::string bytes = EncodeManifest(b.manifest());
  const size_t second_storage = bytes.find(std::string("\x03"
                                                       "cpu",
                                                       4)) +
                                5;
  ASSERT_EQ(bytes.substr(second_storage, 2), std::string("\x01\x00", 2));
  std::string repeated = bytes;
  repeated.replace(second_storage + 1, 1,
                   "\x03"
                   "cpu");
  EXPECT_THAT(Decode(repeated), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("written again")));
  std::string strides = bytes;
  const size_t tensor = bytes.find(std::string("\x09\x10\0\0\x01\x01", 6));
  ASSERT_NE(tensor, std::string::npos);
  strides[tensor + 1] = 0;
  strides.insert(tensor + 6, "\x01");
  EXPECT_THAT(Decode(strides), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("contiguous strides")));
}

TEST(ManifestCodecTest, AHundredThousandTensorsAreSmallAndQuick) {
  ManifestBuilder b;
  std::vector<std::pair<NodeIndex, NodeIndex>> items;
  for (int i = 0; i < 100'000; ++i) {
    items.emplace_back(b.Str("model.layers." + std::to_string(i / 10) + ".block." + std::to_string(i % 10) + ".weight"),
                       0);
    items.back().second = b.Tensor(DType::kFloat32, {64, 64}, "cuda:0");
  }
  b.OrderedDict(items);
  const std::string bytes = EncodeManifest(b.manifest());
  EXPECT_LT(bytes.size(), size_t{7} << 20);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_OK_AND_ASSIGN(const Manifest decoded, Decode(bytes));
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(decoded.tensors.size(), 100'000u);
  RecordProperty("bytes", static_cast<int>(bytes.size()));
  RecordProperty("decode_ms", static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
  printf("100,000 tensors: %zu bytes, decoded in %d ms\n", bytes.size(),
         static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
}

}  // namespace
}  // namespace sconce::format
