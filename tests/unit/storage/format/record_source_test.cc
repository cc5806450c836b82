#include "storage/format/record_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "storage/format/crc32.h"
#include "tests/support/deflated_zip.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

std::string Text(size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) text.push_back(static_cast<char>(i * i / 7));
  return text;
}

RecordSource Named(ByteSpan stored, const std::string& data) {
  RecordSource source = RecordSource::Plain(stored);
  source.size_bytes = static_cast<int64_t>(data.size());
  source.crc32 = Crc32(AsBytes(data));
  source.name = "a/data/0";
  return source;
}

absl::StatusOr<std::string> ReadAll(const RecordSource& source, size_t piece_bytes) {
  std::string all;
  for (RecordReader reader(source); !reader.done();) {
    absl::StatusOr<RecordPiece> piece = reader.Next(piece_bytes);
    if (!piece.ok()) return piece.status();
    EXPECT_LE(piece->bytes.size(), piece_bytes);
    all += ToStd(AsText(piece->bytes));
  }
  return all;
}

TEST(RecordReaderTest, PlainBytesComeFromWhereTheyLie) {
  const std::string data = Text(100);
  RecordReader reader(Named(AsBytes(data), data));
  ASSERT_OK_AND_ASSIGN(const RecordPiece first, reader.Next(64));
  EXPECT_EQ(first.bytes.data(), AsBytes(data).data());
  EXPECT_EQ(first.owner, nullptr);
  EXPECT_FALSE(reader.done());
  ASSERT_OK(reader.Next(64));
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(reader.position(), 100);
}

TEST(RecordReaderTest, DeflatedBytesAreUnpackedWhateverThePieces) {
  for (const size_t size : {0, 1, 15, 16, 100, 70'000}) {
    const std::string data = Text(size);
    const std::string deflated = Deflate(data);
    RecordSource source = Named(AsBytes(deflated), data);
    source.deflated = true;
    for (const size_t piece : {16, 1000, 1 << 20}) {
      ASSERT_OK_AND_ASSIGN(const std::string all, ReadAll(source, piece));
      EXPECT_EQ(all, data) << size << " in pieces of " << piece;
    }
  }
}

TEST(RecordReaderTest, ElementsAreTurnedAroundAfterTheChecksum) {
  const std::string data = "abcdefghABCDEFGH12345678xyz";
  RecordSource source = Named(AsBytes(data), data);
  source.swap_width = 2;
  EXPECT_THAT(*ReadAll(source, 16), "badcfehgBADCFEHG21436587yxz");
  source.swap_width = 4;
  EXPECT_THAT(*ReadAll(source, 16), "dcbahgfeDCBAHGFE43218765xyz");
  source.swap_width = 8;
  EXPECT_THAT(*ReadAll(source, 1024), "hgfedcbaHGFEDCBA87654321xyz");
}

TEST(RecordReaderTest, WrongChecksumWithholdsTheLastPiece) {
  const std::string data = Text(100);
  std::string damaged = data;
  damaged[3] ^= 1;
  RecordReader reader(Named(AsBytes(damaged), data));
  EXPECT_OK(reader.Next(64));
  EXPECT_THAT(reader.Next(64), FailsWith(Reason::FILE_MALFORMED, HasSubstr("a/data/0")));
  EXPECT_FALSE(reader.done());
  RecordSource unchecked = Named(AsBytes(damaged), data);
  unchecked.crc32 = 0;
  EXPECT_OK(ReadAll(unchecked, 64));
}

TEST(RecordReaderTest, DeflateMustGiveExactlyWhatIsPromised) {
  const std::string data = Text(5000);
  const std::string deflated = Deflate(data);
  const auto read = [&](const std::string& stored, const std::string& promised) {
    RecordSource source = Named(AsBytes(stored), promised);
    source.deflated = true;
    source.crc32 = 0;
    return ReadWholeRecord(source).status();
  };
  EXPECT_OK(read(deflated, data));
  EXPECT_THAT(read(deflated, data + "x"), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(read(deflated, data.substr(1)), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(read(deflated + "x", data), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(read("", data), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(read("no deflate stream", data), FailsWith(Reason::FILE_MALFORMED));
  for (size_t cut = 1; cut < deflated.size(); cut += 97)
    EXPECT_THAT(read(deflated.substr(0, cut), data), FailsWith(Reason::FILE_MALFORMED)) << cut;
}

TEST(ReadWholeRecordTest, LimitIsKept) {
  const std::string data = Text(100);
  EXPECT_OK(ReadWholeRecord(Named(AsBytes(data), data), 100));
  EXPECT_THAT(ReadWholeRecord(Named(AsBytes(data), data), 99), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

}  // namespace
}  // namespace sconce::format
