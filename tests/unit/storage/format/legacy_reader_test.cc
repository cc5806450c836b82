#include "storage/format/legacy_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "storage/format/open_checkpoint.h"
#include "storage/format/pickle_writer.h"
#include "storage/format/zip_format.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Pickle(const std::function<void(PickleWriter&)>& write) {
  PickleWriter out;
  write(out);
  return out.Finish();
}

std::string Count(uint64_t n) {
  std::string bytes;
  AppendLittle(bytes, n, 8);
  return bytes;
}

// What torch.save without a zip archive writes, in parts that tests change.
struct LegacyFile {
  std::string magic = Pickle([](PickleWriter& out) { out.Long("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"); });
  std::string protocol = Pickle([](PickleWriter& out) { out.Int(1001); });
  std::string machine = Pickle([](PickleWriter& out) {
    out.Op(PickleOp::kEmptyDict);
    out.Str("little_endian");
    out.Bool(false);  // means nothing: the elements are little-endian nevertheless
    out.Op(PickleOp::kSetItem);
  });
  std::string tree;
  std::string keys;
  std::string storages;

  std::string Bytes() const { return magic + protocol + machine + tree + keys + storages; }
};

void Storage(PickleWriter& out, const std::string& type, const std::string& key, int64_t elements, int64_t part = -1) {
  out.Op(PickleOp::kMark);
  out.Str("storage");
  out.Global("torch", type);
  out.Str(key);
  out.Str("cpu");
  out.Int(elements);
  if (part < 0) {
    out.Op(PickleOp::kNone);
  } else {
    out.Str("part");
    out.Int(part);
    out.Int(2);
    out.Tuple(3);
  }
  out.Op(PickleOp::kTuple);
  out.Op(PickleOp::kBinPersId);
}

// A tensor of `count` elements.
void Tensor(PickleWriter& out, int64_t offset, int64_t count, const std::function<void()>& storage) {
  out.Global("torch._utils", "_rebuild_tensor_v2");
  out.Op(PickleOp::kMark);
  storage();
  out.Int(offset);
  out.Int(count);
  out.Tuple(1);
  out.Int(1);
  out.Tuple(1);
  out.Bool(false);
  out.Global("collections", "OrderedDict");
  out.Tuple(0);
  out.Op(PickleOp::kReduce);
  out.Op(PickleOp::kTuple);
  out.Op(PickleOp::kReduce);
}

std::string Keys(const std::vector<std::string>& keys) {
  return Pickle([&](PickleWriter& out) {
    out.Op(PickleOp::kEmptyList);
    for (const std::string& key : keys) {
      out.Str(key);
      out.Op(PickleOp::kAppend);
    }
  });
}

// [4 floats in storage "b", 2 of the same from the second on, 3 shorts in storage "a"]
LegacyFile Good() {
  LegacyFile file;
  file.tree = Pickle([](PickleWriter& out) {
    out.Op(PickleOp::kEmptyList);
    Tensor(out, 0, 4, [&] { Storage(out, "FloatStorage", "b", 4); });
    out.Op(PickleOp::kAppend);
    Tensor(out, 1, 2, [&] { Storage(out, "FloatStorage", "b", 4); });
    out.Op(PickleOp::kAppend);
    Tensor(out, 0, 3, [&] { Storage(out, "ShortStorage", "a", 3); });
    out.Op(PickleOp::kAppend);
  });
  file.keys = Keys({"a", "b"});
  file.storages = Count(3) + "AABBCC" + Count(4) + "0000111122223333";
  return file;
}

TEST(LegacyReaderTest, StoragesAreSharedAndFollowTheirKeys) {
  const std::string file = Good().Bytes();
  EXPECT_TRUE(IsLegacyTorchFile(AsBytes(file)));
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadCheckpointFile(AsBytes(file)));
  ASSERT_EQ(read.manifest.storages.size(), 2u);
  EXPECT_EQ(read.manifest.storages[0].inline_bytes, "0000111122223333");
  EXPECT_EQ(read.manifest.storages[1].inline_bytes, "AABBCC");
  ASSERT_EQ(read.manifest.tensors.size(), 3u);
  EXPECT_EQ(read.manifest.tensors[1].storage, 0u);
  EXPECT_EQ(read.manifest.tensors[1].offset, 1);
  EXPECT_EQ(read.manifest.tensors[2].storage, 1u);
  EXPECT_EQ(read.manifest.tensors[2].dtype, DType::kInt16);
}

TEST(LegacyReaderTest, PartsOfStoragesBecomeViewsOfThem) {
  LegacyFile file = Good();
  const auto tree = [](int64_t offset, int64_t count, int64_t part) {
    return Pickle(
        [&](PickleWriter& out) { Tensor(out, offset, count, [&] { Storage(out, "FloatStorage", "b", 4, part); }); });
  };
  file.keys = Keys({"b"});
  file.storages = Count(4) + "0000111122223333";
  file.tree = tree(1, 1, 2);
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadCheckpointFile(AsBytes(file.Bytes())));
  EXPECT_EQ(read.manifest.tensors.at(0).offset, 3);
  EXPECT_EQ(read.manifest.storages.at(0).size_bytes, 16);
  file.tree = tree(0, 3, 0);  // three elements of a part of two
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_MALFORMED, HasSubstr("part")));
  file.tree = tree(0, 2, 3);  // the part reaches past the storage
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_MALFORMED, HasSubstr("byte 20")));
  file.tree = Pickle([](PickleWriter& out) { Storage(out, "FloatStorage", "b", 4, 1); });
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("part")));
}

TEST(LegacyReaderTest, BytesAfterTheLastStorageAreIgnored) {
  EXPECT_OK(ReadCheckpointFile(AsBytes(Good().Bytes() + "another file")));
}

TEST(LegacyReaderTest, AnyPickleProtocolIsRecognised) {
  std::string file = Good().Bytes();
  file[1] = 3;
  EXPECT_OK(ReadCheckpointFile(AsBytes(file)));
  const std::string framed = std::string("\x80\x04\x95\x0d\0\0\0\0\0\0\0", 11) + file.substr(2);
  EXPECT_OK(ReadCheckpointFile(AsBytes(framed)));
  file[5] ^= 1;
  EXPECT_FALSE(IsLegacyTorchFile(AsBytes(file)));
}

TEST(LegacyReaderTest, WhatDoesNotFitIsNamed) {
  LegacyFile file = Good();
  file.protocol = Pickle([](PickleWriter& out) { out.Int(1002); });
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("1001")));
  file = Good();
  file.keys = Keys({"a"});
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_MALFORMED, HasSubstr("\"b\"")));
  file.keys = Keys({"a", "b", "c"});
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_MALFORMED, HasSubstr("\"c\"")));
  file.keys = Keys({"a", "a"});
  file.storages = Count(3) + "AABBCC" + Count(3) + "AABBCC";
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_MALFORMED, HasSubstr("twice")));
  file.keys = Pickle([](PickleWriter& out) { out.Int(1); });
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_MALFORMED, HasSubstr("list")));
  file = Good();
  file.storages = Count(3) + "AABBCC" + Count(5) + "00001111222233334444";
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_MALFORMED, HasSubstr("20")));
  file.storages = Count(3) + "AABBCC" + Count(uint64_t{1} << 62) + "0000111122223333";
  EXPECT_THAT(ReadCheckpointFile(AsBytes(file.Bytes())), FailsWith(Reason::FILE_TRUNCATED, HasSubstr("\"b\"")));
}

TEST(LegacyReaderTest, EveryTruncationIsAnErrorAndEveryFlipHarmless) {
  const std::string file = Good().Bytes();
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
