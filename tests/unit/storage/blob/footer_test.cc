#include "storage/blob/footer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <utility>

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::blob {
namespace {

constexpr int64_t kAt = 8192;

FooterChunk Chunk(const std::string& content, int64_t offset) {
  return {Sha256(AsBytes(content)), Xxh3(AsBytes(content)), offset, static_cast<int64_t>(content.size())};
}

std::vector<FooterChunk> TwoChunks() {
  return {Chunk("first", 0), Chunk("the second", 4096)};
}

EncodedFooter Encoded() {
  return EncodeFooter(TwoChunks(), AsBytes("manifest!"), AsBytes("record"), kAt);
}

absl::StatusOr<FooterView> Decode(const std::string& bytes, int64_t at = kAt) {
  return DecodeFooter(AsBytes(bytes), at);
}

// `bytes` with those at `offset` replaced by `value`, little-endian.
std::string With(std::string bytes, size_t offset, uint64_t value, size_t width = 8) {
  for (size_t i = 0; i < width; ++i) bytes[offset + i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

TEST(FooterTest, RoundTrip) {
  const EncodedFooter footer = Encoded();
  EXPECT_EQ(footer.bytes.size() % 8, 0u);
  EXPECT_EQ(footer.manifest_offset, ManifestOffset(kAt, 2));
  ASSERT_OK_AND_ASSIGN(const FooterView view, Decode(footer.bytes));
  EXPECT_EQ(AsText(view.manifest), "manifest!");
  EXPECT_EQ(AsText(view.record), "record");
  EXPECT_EQ(view.manifest_offset, footer.manifest_offset);
  EXPECT_EQ(view.manifest.data() - AsBytes(footer.bytes).data(), footer.manifest_offset - kAt);
  ASSERT_EQ(view.chunks.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const FooterChunk expected = TwoChunks()[i];
    EXPECT_EQ(view.chunks[i].sha256, expected.sha256);
    EXPECT_EQ(view.chunks[i].xxh3, expected.xxh3);
    EXPECT_EQ(view.chunks[i].offset, expected.offset);
    EXPECT_EQ(view.chunks[i].size_bytes, expected.size_bytes);
  }
}

TEST(FooterTest, EveryPartMayBeEmpty) {
  const EncodedFooter footer = EncodeFooter({}, {}, {}, 0);
  ASSERT_OK_AND_ASSIGN(const FooterView view, Decode(footer.bytes, 0));
  EXPECT_TRUE(view.chunks.empty());
  EXPECT_TRUE(view.manifest.empty());
  EXPECT_TRUE(view.record.empty());
}

TEST(FooterTest, CorruptMagic) {
  std::string bytes = Encoded().bytes;
  bytes[0] = 'X';
  EXPECT_THAT(Decode(bytes), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(FooterTest, CorruptLength) {
  const std::string good = Encoded().bytes;
  for (const size_t field : {24u, 32u, 40u}) {  // chunk count, manifest size, record size
    for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{100}, uint64_t{1} << 58, uint64_t{1} << 63,
                                 UINT64_MAX - 7, UINT64_MAX - 3, UINT64_MAX}) {
      EXPECT_THAT(Decode(With(good, field, value)), FailsWith(Reason::CHUNK_CORRUPT)) << field << " " << value;
    }
  }
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Decode(good.substr(0, size)), FailsWith(Reason::CHUNK_CORRUPT)) << size;
  }
  EXPECT_THAT(Decode(good + std::string(8, '\0')), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(FooterTest, UnsupportedVersion) {
  EXPECT_THAT(Decode(With(Encoded().bytes, 8, 2, 4)), FailsWith(Reason::DATA_DIR_INCOMPATIBLE));
}

TEST(FooterTest, AChunkMustLieInTheDataAndAlignedAsWritten) {
  const std::string good = Encoded().bytes;
  constexpr size_t kOffset = 64 + 48, kSize = 64 + 56;
  for (const uint64_t offset : {uint64_t{8192}, uint64_t{32}, uint64_t{1} << 63, UINT64_MAX - 63}) {
    EXPECT_THAT(Decode(With(good, kOffset, offset)), FailsWith(Reason::CHUNK_CORRUPT)) << offset;
  }
  for (const uint64_t size : {uint64_t{0}, uint64_t{8193}, UINT64_MAX}) {
    EXPECT_THAT(Decode(With(good, kSize, size)), FailsWith(Reason::CHUNK_CORRUPT)) << size;
  }
}

TEST(FooterTest, AFooterFromElsewhereIsRefused) {
  EXPECT_THAT(Decode(Encoded().bytes, kAt + 64), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Decode(Encoded().bytes, -64), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Decode(With(Encoded().bytes, 16, kAt + 8), kAt + 8), FailsWith(Reason::CHUNK_CORRUPT));
  constexpr int64_t kFar = INT64_MAX - 63;
  EXPECT_THAT(Decode(With(Encoded().bytes, 16, kFar), kFar), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(FooterTest, OnlyOneEncodingIsAccepted) {
  const std::string good = Encoded().bytes;
  EXPECT_THAT(Decode(With(good, 12, 1, 1)), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Decode(With(good, 56, 1, 1)), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(Decode(With(good, good.size() - 1, 1, 1)), FailsWith(Reason::CHUNK_CORRUPT));  // padding of the record
}

// Whatever comes, the decoder answers; what it accepts encodes to the same bytes again.
TEST(FooterTest, SurvivesRandomDamage) {
  const std::string good = Encoded().bytes;
  std::mt19937 random(20240607);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good.substr(0, round % 4 == 0 ? random() % (good.size() + 1) : good.size());
    for (uint32_t flips = 1 + random() % 4; flips > 0 && !bytes.empty(); --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
    }
    const absl::StatusOr<FooterView> view = Decode(bytes);
    if (!view.ok()) continue;
    ++accepted;
    EXPECT_EQ(EncodeFooter(view->chunks, view->manifest, view->record, kAt).bytes, bytes);
  }
  EXPECT_GT(accepted, 0);
}

Trailer ATrailer() {
  Trailer trailer;
  trailer.id.project_uid = 42;
  trailer.id.id.fill(0xab);
  trailer.footer_offset = 64;
  trailer.footer_size_bytes = 5000;
  trailer.file_size_bytes = SealedSize(64, 5000);
  trailer.footer_xxh3 = Xxh3(AsBytes("footer"));
  return trailer;
}

std::string EncodedTrailer(const Trailer& trailer) {
  return std::string(ToStd(AsText(EncodeTrailer(trailer))));
}

// The trailer with its checksum made to fit again after a change.
std::string Resealed(std::string bytes) {
  const Fingerprint check = Xxh3(AsBytes(bytes).first(80));
  bytes.replace(80, 16, std::string(ToStd(check.AsKey())));
  return bytes;
}

TEST(TrailerTest, RoundTrip) {
  const Trailer trailer = ATrailer();
  EXPECT_EQ(trailer.file_size_bytes, 8192);
  ASSERT_OK_AND_ASSIGN(const Trailer read, DecodeTrailer(EncodeTrailer(trailer), 8192));
  EXPECT_EQ(read.id, trailer.id);
  EXPECT_EQ(read.file_size_bytes, 8192);
  EXPECT_EQ(read.footer_offset, 64);
  EXPECT_EQ(read.footer_size_bytes, 5000);
  EXPECT_EQ(read.footer_xxh3, trailer.footer_xxh3);
}

TEST(TrailerTest, CorruptMagic) {
  std::string bytes = EncodedTrailer(ATrailer());
  bytes[0] = 'X';
  EXPECT_THAT(DecodeTrailer(AsBytes(Resealed(bytes)), 8192), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(TrailerTest, CorruptLength) {
  const std::string good = EncodedTrailer(ATrailer());
  for (const size_t field : {16u, 24u, 32u}) {  // file size, footer offset, footer size
    for (const uint64_t value :
         {uint64_t{1}, uint64_t{8192 + 64}, uint64_t{1} << 62, uint64_t{1} << 63, UINT64_MAX - 63, UINT64_MAX}) {
      EXPECT_THAT(DecodeTrailer(AsBytes(Resealed(With(good, field, value))), 8192), FailsWith(Reason::CHUNK_CORRUPT));
    }
  }
  EXPECT_THAT(DecodeTrailer(AsBytes(good), 4096), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(DecodeTrailer(AsBytes(good), 8191), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(DecodeTrailer(AsBytes(good), 12288), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(DecodeTrailer(AsBytes(good), -4096), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(DecodeTrailer(AsBytes(good).first(95), 8192), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_THAT(DecodeTrailer({}, 8192), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(TrailerTest, UnsupportedVersion) {
  const std::string newer = Resealed(With(EncodedTrailer(ATrailer()), 8, 2, 4));
  EXPECT_THAT(DecodeTrailer(AsBytes(newer), 8192), FailsWith(Reason::DATA_DIR_INCOMPATIBLE));
}

TEST(TrailerTest, EveryFlippedBitIsNoticed) {
  const std::string good = EncodedTrailer(ATrailer());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    EXPECT_THAT(DecodeTrailer(AsBytes(bytes), 8192), FailsWith(Reason::CHUNK_CORRUPT)) << bit;
  }
}

}  // namespace
}  // namespace sconce::blob
