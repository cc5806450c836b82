#include "proto/wire/bulk_message.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "proto/wire/limits.h"
#include "sconce/v1/transfer_service.pb.h"
#include "tests/support/status_matchers.h"

namespace sconce::wire {
namespace {

using ::testing::HasSubstr;

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

std::string Flatten(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string all;
  for (const grpc::Slice& slice : slices) all.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return all;
}

std::string Join(const std::vector<ByteSpan>& pieces) {
  std::string all;
  for (const ByteSpan piece : pieces) all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  return all;
}

TEST(BulkMessageTest, DataOfManySizesIsReadByGeneratedClassesAndByDecode) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string all;
    std::vector<SharedBytes> pieces;
    for (auto n = random() % 8; n > 0; --n) {
      const std::string piece = Pattern(random() % (random() % 2 ? 20'000 : 1500));
      all += piece;
      pieces.push_back(Share(piece));
    }
    const int64_t offset = static_cast<int64_t>(random());
    const grpc::ByteBuffer buffer = EncodeBulkData(offset, pieces);

    v1::PushCheckpointRequest generated;
    ASSERT_TRUE(generated.ParseFromString(Flatten(buffer)));
    EXPECT_EQ(generated.data(), all);
    EXPECT_EQ(generated.offset(), offset);
    EXPECT_EQ(ToAbsl(generated.xxh3()), Xxh3(AsBytes(ToAbsl(all))).AsKey());

    absl::StatusOr<BulkMessage> message = BulkMessage::Decode(buffer);
    ASSERT_OK(message);
    const BulkMessage moved = *std::move(message);  // the fields must still point at live memory
    EXPECT_EQ(Join(moved.fields().data), all);
    EXPECT_EQ(moved.fields().offset, offset);
    EXPECT_OK(moved.CheckData());
  }
}

TEST(BulkMessageTest, LargePiecesAreNotCopiedAndTheirOwnerLivesUntilTheMessageIsGone) {
  auto owner = std::make_shared<const std::string>(Pattern(1 << 20));
  const std::weak_ptr<const std::string> watch = owner;
  const SharedBytes piece{AsBytes(ToAbsl(*owner)), owner};
  auto buffer = std::make_unique<grpc::ByteBuffer>(EncodeBulkData(0, {piece}));
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(buffer->Dump(&slices).ok());
  ASSERT_EQ(slices.size(), 2);
  EXPECT_EQ(slices[1].begin(), piece.bytes.data());
  slices.clear();
  const_cast<SharedBytes&>(piece).owner.reset();
  owner.reset();
  EXPECT_FALSE(watch.expired());
  buffer.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(BulkMessageTest, HeaderAndManifestTravelBothWays) {
  v1::FetchCheckpointResponse::Header header;
  header.set_plan("abc");
  header.set_bulk_bytes(7);
  absl::StatusOr<BulkMessage> message = BulkMessage::Decode(EncodeBulkHeader(header));
  ASSERT_OK(message);
  v1::FetchCheckpointResponse::Header read;
  ASSERT_OK(message->ReadHeader(read));
  EXPECT_EQ(read.SerializeAsString(), header.SerializeAsString());

  const std::string manifest = Pattern(100'000);
  message = BulkMessage::Decode(EncodeBulkManifest(Share(manifest)));
  ASSERT_OK(message);
  EXPECT_EQ(Join(message->fields().manifest), manifest);
  EXPECT_FALSE(message->fields().header.has_value());
}

TEST(BulkMessageTest, WholeMessagesTravelToo) {
  v1::PushHeader header;
  header.set_parent("projects/p/runs/r");
  v1::PushHeader read;
  ASSERT_OK(DecodeMessage(EncodeMessage(header), read));
  EXPECT_EQ(read.parent(), header.parent());
  ASSERT_OK(DecodeMessage(EncodeMessage(v1::PushHeader()), read));
  EXPECT_EQ(read.parent(), "");
  const grpc::Slice bytes(std::string("\x0a\x05"));
  EXPECT_THAT(DecodeMessage(grpc::ByteBuffer(&bytes, 1), read),
              FailsWith(Reason::STREAM_PROTOCOL_VIOLATED, HasSubstr("sconce.v1.PushHeader")));
}

TEST(BulkMessageTest, AnEmptyHeaderIsStillAHeader) {
  const absl::StatusOr<BulkMessage> message = BulkMessage::Decode(EncodeBulkHeader(v1::PushHeader()));
  ASSERT_OK(message);
  EXPECT_TRUE(message->fields().header.has_value());
}

TEST(BulkMessageTest, AMalformedHeaderIsRefusedNamingTheMessage) {
  const grpc::Slice bytes(std::string("\x0a\x02\x0a\x05", 4));
  const absl::StatusOr<BulkMessage> message = BulkMessage::Decode(grpc::ByteBuffer(&bytes, 1));
  ASSERT_OK(message);
  v1::PushHeader header;
  EXPECT_THAT(message->ReadHeader(header),
              FailsWith(Reason::STREAM_PROTOCOL_VIOLATED, HasSubstr("sconce.v1.PushHeader")));
}

TEST(BulkMessageTest, DamagedDataIsADigestMismatch) {
  v1::PushCheckpointRequest request;
  request.set_data("abc");
  const auto check = [&request] {
    const grpc::Slice bytes(request.SerializeAsString());
    const absl::StatusOr<BulkMessage> message = BulkMessage::Decode(grpc::ByteBuffer(&bytes, 1));
    return message.ok() ? message->CheckData() : message.status();
  };
  EXPECT_OK(check());  // no checksum, no check
  request.set_xxh3(std::string(ToStd(Xxh3(AsBytes("abc")).AsKey())));
  EXPECT_OK(check());
  request.set_data("abd");
  EXPECT_THAT(check(), FailsWith(Reason::DIGEST_MISMATCH, HasSubstr("send it again")));
  request.set_xxh3("short");
  EXPECT_THAT(check(), FailsWith(Reason::DIGEST_MISMATCH, HasSubstr("5 bytes given")));
}

TEST(BulkMessageTest, MessagesAboveTheLimitAreRefused) {
  const std::string data(kMaxMessageBytes, 'x');
  EXPECT_THAT(BulkMessage::Decode(EncodeBulkData(0, {Share(data)})), FailsWith(Reason::MESSAGE_TOO_LARGE));
  const std::string fits(kMaxMessageBytes - 64, 'x');
  EXPECT_OK(BulkMessage::Decode(EncodeBulkData(0, {Share(fits)})));
}

}  // namespace
}  // namespace sconce::wire
