#include "proto/wire/upload_message.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "proto/wire/limits.h"
#include "tests/support/status_matchers.h"

namespace sconce::wire {
namespace {

std::string Join(const std::vector<ByteSpan>& pieces) {
  std::string all;
  for (const ByteSpan piece : pieces) all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  return all;
}

std::string Flatten(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string all;
  for (const grpc::Slice& slice : slices) all.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return all;
}

// `bytes` in slices of `size`, as a transport may cut them.
grpc::ByteBuffer Cut(const std::string& bytes, size_t size) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += size) slices.emplace_back(bytes.substr(at, size));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

TEST(UploadMessageTest, EveryFieldOfAGeneratedMessageIsReadWhereverItIsCut) {
  v1::UploadChunksRequest request;
  request.mutable_start()->set_upload("projects/p/runs/r/uploads/u");
  request.mutable_start()->set_part(3);
  for (int64_t chunk = 0; chunk < 300; ++chunk) {
    v1::UploadChunksRequest::Proposal& proposal = *request.add_proposals();
    proposal.set_chunk(chunk);
    proposal.set_size_bytes(4 << 20);
    proposal.set_xxh3(std::string(16, static_cast<char>(chunk)));
  }
  request.add_proofs()->set_sha256(std::string(32, '\x80'));
  request.set_chunk(7);
  request.set_offset(1 << 20);
  const std::string data(5000, 'd'), manifest(3000, 'm');
  v1::UploadChunksRequest full = request;
  full.set_manifest(manifest);
  full.set_data(data);
  for (const size_t size : {1, 7, 100, 100'000}) {
    absl::StatusOr<UploadMessage> decoded = UploadMessage::Decode(Cut(full.SerializeAsString(), size));
    ASSERT_OK(decoded);
    const UploadMessage moved = *std::move(decoded);  // the pieces must still point at live memory
    EXPECT_EQ(moved.fields().SerializeAsString(), request.SerializeAsString()) << size;
    EXPECT_EQ(Join(moved.manifest()), manifest);
    EXPECT_EQ(Join(moved.data()), data);
  }
}

TEST(UploadMessageTest, DataIsReadByGeneratedClassesAndByDecode) {
  const std::string small(100, 's'), large(50'000, 'l');
  const grpc::ByteBuffer buffer = EncodeChunkData(300, 2 << 20, {Share(small), Share(large), Share(small)});
  v1::UploadChunksRequest generated;
  ASSERT_TRUE(generated.ParseFromString(Flatten(buffer)));
  EXPECT_EQ(generated.chunk(), 300);
  EXPECT_EQ(generated.offset(), 2 << 20);
  EXPECT_EQ(generated.data(), small + large + small);
  ASSERT_OK_AND_ASSIGN(const UploadMessage message, UploadMessage::Decode(buffer));
  EXPECT_EQ(message.fields().chunk(), 300);
  EXPECT_EQ(Join(message.data()), small + large + small);
  EXPECT_EQ(message.fields().data(), "");
}

TEST(UploadMessageTest, AMalformedMessageIsRefused) {
  EXPECT_THAT(UploadMessage::Decode(Cut("\x0a\x05", 10)), FailsWith(Reason::STREAM_PROTOCOL_VIOLATED));
  // A well-formed record whose submessage is not.
  EXPECT_THAT(UploadMessage::Decode(Cut(std::string("\x0a\x02\x0a\x05", 4), 10)),
              FailsWith(Reason::STREAM_PROTOCOL_VIOLATED));
  EXPECT_THAT(UploadMessage::Decode(EncodeChunkData(0, 0, {Share(std::string(kMaxMessageBytes, 'x'))})),
              FailsWith(Reason::MESSAGE_TOO_LARGE));
}

TEST(UploadMessageTest, ProposalsAreCountedBeforeTheyTakeMemory) {
  v1::UploadChunksRequest request;
  for (size_t i = 0; i < kMaxChunkQuestions; ++i) request.add_proposals();
  EXPECT_OK(UploadMessage::Decode(Cut(request.SerializeAsString(), 1 << 20)));
  request.add_proofs();
  EXPECT_THAT(UploadMessage::Decode(Cut(request.SerializeAsString(), 1 << 20)),
              FailsWith(Reason::MESSAGE_TOO_LARGE, ::testing::HasSubstr("65537 proposals and proofs")));
}

}  // namespace
}  // namespace sconce::wire
