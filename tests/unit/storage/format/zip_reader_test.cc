#include "storage/format/zip_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "storage/format/zip_format.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Sample() {
  return MakeZip({{"archive/data.pkl", "pickle"}, {"archive/data/0", std::string(100, 'x')}, {"archive/empty", ""}});
}

// Where the `n`th signature of that kind is in the archive.
size_t Place(const std::string& zip, uint32_t signature, int n = 0) {
  std::string bytes;
  AppendLittle(bytes, signature, 4);
  size_t at = zip.find(bytes);
  while (n-- > 0) at = zip.find(bytes, at + 1);
  return at;
}

void Poke(std::string& zip, size_t at, uint64_t value, int bytes) {
  std::string number;
  AppendLittle(number, value, bytes);
  zip.replace(at, number.size(), number);
}

TEST(ZipReaderTest, RoundTrip) {
  const std::string zip = Sample();
  ASSERT_OK_AND_ASSIGN(const ZipReader reader, ZipReader::Open(AsBytes(zip)));
  ASSERT_EQ(reader.records().size(), 3u);
  EXPECT_EQ(ToStd(reader.records()[1].name), "archive/data/0");
  ASSERT_NE(reader.Find("archive/data.pkl"), nullptr);
  ASSERT_OK_AND_ASSIGN(const ByteSpan data, ReadRecord(*reader.Find("archive/data.pkl")));
  EXPECT_EQ(ToStd(AsText(data)), "pickle");
  ASSERT_OK_AND_ASSIGN(const ByteSpan empty, ReadRecord(*reader.Find("archive/empty")));
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(reader.Find("data.pkl"), nullptr);
  EXPECT_EQ(reader.Find("archive/data/00"), nullptr);
}

TEST(ZipReaderTest, DataIsNotCopied) {
  const std::string zip = Sample();
  ASSERT_OK_AND_ASSIGN(const ZipReader reader, ZipReader::Open(AsBytes(zip)));
  const auto* start = reinterpret_cast<const uint8_t*>(zip.data());
  EXPECT_GE(reader.records()[0].data.data(), start);
  EXPECT_LT(reader.records()[0].data.data(), start + zip.size());
}

TEST(ZipReaderTest, CommentAfterTheEndIsAllowed) {
  std::string zip = Sample();
  Poke(zip, zip.size() - 2, 5, 2);
  zip += "hello";
  EXPECT_OK(ZipReader::Open(AsBytes(zip)));
}

TEST(ZipReaderTest, CorruptMagicIsRefused) {
  for (const uint32_t signature : {ZipLocal::kSignature, ZipCentral::kSignature, ZipEnd64::kSignature}) {
    std::string zip = Sample();
    zip[Place(zip, signature)] ^= 1;
    EXPECT_THAT(ZipReader::Open(AsBytes(zip)), FailsWith(Reason::FILE_MALFORMED));
  }
  std::string zip = Sample();
  zip[Place(zip, ZipEnd::kSignature)] ^= 1;
  EXPECT_THAT(ZipReader::Open(AsBytes(zip)), FailsWith(Reason::FILE_TRUNCATED));
}

TEST(ZipReaderTest, CorruptLengthIsRefused) {
  for (const int field : {ZipCentral::kCompressed, ZipCentral::kSize, ZipCentral::kNameBytes, ZipCentral::kExtraBytes,
                          ZipCentral::kLocalOffset}) {
    std::string zip = Sample();
    Poke(zip, Place(zip, ZipCentral::kSignature) + field, 0xfff0, 2);
    EXPECT_THAT(ZipReader::Open(AsBytes(zip)), FailsWith(Reason::FILE_MALFORMED)) << field;
  }
}

TEST(ZipReaderTest, UnsupportedVersionsOfTheFormatAreNamed) {
  std::string zip = Sample();
  Poke(zip, Place(zip, ZipEnd::kSignature) + ZipEnd::kDisk, 1, 2);
  EXPECT_THAT(ZipReader::Open(AsBytes(zip)), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("volumes")));

  const auto with_method = [](int64_t method) {
    std::string changed = Sample();
    Poke(changed, Place(changed, ZipLocal::kSignature) + ZipLocal::kMethod, method, 2);
    Poke(changed, Place(changed, ZipCentral::kSignature) + ZipCentral::kMethod, method, 2);
    return changed;
  };
  zip = with_method(12);
  ASSERT_OK_AND_ASSIGN(const ZipReader bzip2, ZipReader::Open(AsBytes(zip)));
  EXPECT_THAT(ReadRecord(bzip2.records()[0]),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("compressed with method 12")));
  zip = with_method(8);  // deflate is read, and this is not deflated
  ASSERT_OK_AND_ASSIGN(const ZipReader deflated, ZipReader::Open(AsBytes(zip)));
  EXPECT_THAT(ReadRecord(deflated.records()[0]), FailsWith(Reason::FILE_MALFORMED, HasSubstr("compressed data")));

  zip = Sample();
  Poke(zip, Place(zip, ZipCentral::kSignature) + ZipCentral::kFlags, kZipFlagEncrypted, 2);
  ASSERT_OK_AND_ASSIGN(const ZipReader encrypted, ZipReader::Open(AsBytes(zip)));
  EXPECT_THAT(ReadRecord(encrypted.records()[0]), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("encrypted")));
}

TEST(ZipReaderTest, ChecksumIsCheckedUnlessItIsZero) {
  std::string zip = Sample();
  const size_t crc = Place(zip, ZipCentral::kSignature) + ZipCentral::kCrc;
  Poke(zip, crc, 12345, 4);
  ASSERT_OK_AND_ASSIGN(const ZipReader wrong, ZipReader::Open(AsBytes(zip)));
  EXPECT_THAT(ReadRecord(wrong.records()[0]), FailsWith(Reason::FILE_MALFORMED, HasSubstr("archive/data.pkl")));
  Poke(zip, crc, 0, 4);
  ASSERT_OK_AND_ASSIGN(const ZipReader absent, ZipReader::Open(AsBytes(zip)));
  EXPECT_OK(ReadRecord(absent.records()[0]));
}

TEST(ZipReaderTest, RecordsMayNotOverlap) {
  std::string zip = MakeZip({{"a/0", "same"}, {"a/0", "same"}});
  // Two names for one record: the second entry points to the first one's header.
  zip.replace(Place(zip, ZipCentral::kSignature, 1) + ZipCentral::kBytes, 3, "a/1");
  Poke(zip, Place(zip, ZipCentral::kSignature, 1) + ZipCentral::kLocalOffset, 0, 4);
  EXPECT_THAT(ZipReader::Open(AsBytes(zip)), FailsWith(Reason::FILE_MALFORMED));
  const size_t name = Place(zip, ZipLocal::kSignature) + ZipLocal::kBytes;
  zip.replace(Place(zip, ZipCentral::kSignature, 1) + ZipCentral::kBytes, 3, "a/0");
  EXPECT_THAT(ZipReader::Open(AsBytes(zip)), FailsWith(Reason::FILE_MALFORMED, HasSubstr("two records")));
  EXPECT_EQ(zip.substr(name, 3), "a/0");
}

TEST(ZipReaderTest, NamesAreUniqueAndAgree) {
  EXPECT_THAT(ZipReader::Open(AsBytes(MakeZip({{"a/0", "x"}, {"a/0", "y"}}))),
              FailsWith(Reason::FILE_MALFORMED, HasSubstr("a/0")));
  std::string zip = Sample();
  zip[Place(zip, ZipLocal::kSignature) + ZipLocal::kBytes] = 'A';
  EXPECT_THAT(ZipReader::Open(AsBytes(zip)), FailsWith(Reason::FILE_MALFORMED, HasSubstr("disagrees")));
}

TEST(ZipReaderTest, EveryTruncationIsAnErrorAndEveryFlipHarmless) {
  const std::string zip = Sample();
  for (size_t length = 0; length < zip.size(); ++length) {
    EXPECT_THAT(ZipReader::Open(AsBytes(zip.substr(0, length))), Not(IsOk())) << length;
  }
  for (size_t at = 0; at < zip.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = zip;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      const auto reader = ZipReader::Open(AsBytes(damaged));
      if (!reader.ok()) continue;
      for (const ZipRecord& record : reader->records()) (void)ReadRecord(record);
    }
  }
}

}  // namespace
}  // namespace sconce::format
