#include "proto/wire/bulk_fields.h"

#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "sconce/v1/transfer_service.pb.h"
#include "tests/support/status_matchers.h"

namespace sconce::wire {
namespace {

using ::testing::HasSubstr;

std::string Join(const std::vector<ByteSpan>& pieces) {
  std::string all;
  for (const ByteSpan piece : pieces) all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  return all;
}

std::string RandomBytes(std::mt19937& random, size_t max_bytes) {
  std::string bytes(random() % (max_bytes + 1), '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

// `message` in pieces of memory of their own, so that reading past a piece is noticed under a sanitizer.
class Pieces {
 public:
  Pieces(const std::string& message, std::mt19937& random) {
    for (size_t at = 0; at < message.size();) {
      const size_t size = std::min<size_t>(message.size() - at, random() % 8 == 0 ? 0 : random() % 40);
      owned_.push_back(std::make_unique<uint8_t[]>(size));
      std::copy_n(message.data() + at, size, reinterpret_cast<char*>(owned_.back().get()));
      spans_.emplace_back(owned_.back().get(), size);
      at += size;
    }
  }
  absl::Span<const ByteSpan> spans() const { return spans_; }

 private:
  std::vector<std::unique_ptr<uint8_t[]>> owned_;
  std::vector<ByteSpan> spans_;
};

absl::StatusOr<BulkFields> ParseWhole(const std::string& message) {
  const ByteSpan span = AsBytes(ToAbsl(message));
  return ParseBulkFields({span});
}

v1::PushCheckpointRequest RandomMessage(std::mt19937& random) {
  v1::PushCheckpointRequest message;
  if (random() % 2) {
    message.mutable_header()->set_parent("projects/p/runs/r");
    message.mutable_header()->set_no_create(random() % 2);
    (*message.mutable_header()->mutable_checkpoint()->mutable_metrics())["loss"] = 0.5;
  }
  if (random() % 2) message.set_manifest(RandomBytes(random, 300));
  if (random() % 2) {
    message.set_offset(static_cast<int64_t>((uint64_t{random()} << 32 | random()) >> (random() % 64)));
  }
  if (random() % 2) message.set_xxh3(RandomBytes(random, 20));
  if (random() % 2) message.set_data(RandomBytes(random, 300));
  return message;
}

// What the parser says of `bytes` must be what the generated class says of them.
void ExpectAsGenerated(const std::string& bytes, std::mt19937& random) {
  v1::PushCheckpointRequest expected;
  const bool valid = expected.ParseFromString(bytes);
  const Pieces pieces(bytes, random);
  const absl::StatusOr<BulkFields> fields = ParseBulkFields(pieces.spans());
  if (!valid && fields.ok()) {
    // The header is parsed later. It must be what was wrong.
    EXPECT_TRUE(fields->header.has_value());
    return;
  }
  ASSERT_EQ(fields.ok(), valid) << ToHex(AsBytes(ToAbsl(bytes)));
  if (!valid) {
    EXPECT_THAT(fields, FailsWith(Reason::STREAM_PROTOCOL_VIOLATED));
    return;
  }
  EXPECT_EQ(fields->header.has_value(), expected.has_header());
  if (fields->header.has_value()) {
    v1::PushHeader header;
    EXPECT_TRUE(header.ParseFromString(*fields->header));
    EXPECT_EQ(header.SerializeAsString().size(), expected.header().SerializeAsString().size());
  }
  EXPECT_EQ(Join(fields->manifest), expected.manifest());
  EXPECT_EQ(fields->manifest_bytes(), static_cast<int64_t>(expected.manifest().size()));
  EXPECT_EQ(fields->offset.has_value(), expected.has_offset());
  EXPECT_EQ(fields->offset.value_or(0), expected.offset());
  EXPECT_EQ(fields->xxh3, expected.xxh3());
  EXPECT_EQ(Join(fields->data), expected.data());
  EXPECT_EQ(fields->data_bytes(), static_cast<int64_t>(expected.data().size()));
}

TEST(BulkFieldsTest, ReadsWhatGeneratedClassesWrite) {
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) ExpectAsGenerated(RandomMessage(random).SerializeAsString(), random);
}

TEST(BulkFieldsTest, TheLastOfSeveralCountsAndHeadersMerge) {
  std::mt19937 random(2);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes;
    for (auto n = random() % 4; n > 0; --n) bytes += RandomMessage(random).SerializeAsString();
    ExpectAsGenerated(bytes, random);
  }
}

TEST(BulkFieldsTest, AgreesWithGeneratedClassesAboutDamagedMessages) {
  const google::protobuf::LogSilencer quiet;  // about text that is no UTF-8
  std::mt19937 random(3);
  int refused = 0;
  for (int i = 0; i < 40000; ++i) {
    std::string bytes = RandomMessage(random).SerializeAsString();
    for (auto n = 1 + random() % 3; n > 0 && !bytes.empty(); --n) {
      const size_t at = random() % std::min<size_t>(bytes.size(), 24);
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.resize(random() % bytes.size());
          break;
        case 2:
          bytes.insert(at, 1, static_cast<char>(random()));
          break;
        default:
          bytes.erase(at, 1);
      }
    }
    ExpectAsGenerated(bytes, random);
    refused += ParseWhole(bytes).ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 1000);  // else the loop tries nothing
}

TEST(BulkFieldsTest, AgreesWithGeneratedClassesAboutNoise) {
  const google::protobuf::LogSilencer quiet;
  std::mt19937 random(4);
  for (int i = 0; i < 40000; ++i) {
    std::string bytes = RandomBytes(random, 12);
    // Tags that mean something, so that more than the first byte is looked at.
    static constexpr char kTags[] = {0x0a, 0x12, 0x18, 0x22, 0x7a, 0x09, 0x0d, 0x0b, 0x0c, 0x13, 0x14, 0x1a, 0x78};
    for (size_t at = 0; at < bytes.size(); at += 1 + random() % 4) bytes[at] = kTags[random() % sizeof(kTags)];
    ExpectAsGenerated(bytes, random);
  }
}

TEST(BulkFieldsTest, SkipsUnknownFieldsOfEveryKind) {
  // 16: varint, 17: fixed64, 18: bytes, 19: group with a group in it, 20: fixed32; then data.
  const std::string bytes = std::string("\x80\x01\x05", 3) + std::string("\x89\x01", 2) + std::string(8, 'x') +
                            std::string("\x92\x01\x02zz", 5) + std::string("\x9b\x01\x0b\x7a\x01q\x0c\x9c\x01", 9) +
                            std::string("\xa5\x01", 2) + std::string(4, 'y') +
                            std::string(
                                "\x7a\x03"
                                "abc",
                                5);
  const absl::StatusOr<BulkFields> fields = ParseWhole(bytes);
  ASSERT_OK(fields);
  EXPECT_EQ(Join(fields->data), "abc");  // not the `q` inside the group
  std::mt19937 random(5);
  ExpectAsGenerated(bytes, random);
}

TEST(BulkFieldsTest, RefusesWhatIsMalformed) {
  const auto expect = [](const std::string& bytes, const char* sentence) {
    EXPECT_THAT(ParseWhole(bytes), FailsWith(Reason::STREAM_PROTOCOL_VIOLATED, HasSubstr(sentence)));
  };
  expect(
      "\x7a\x05"
      "abc",
      "a length reaches past its end");
  expect("\x7a", "bad length");
  expect("\x7a\xff\xff\xff\xff\xff\x01", "bad length");
  expect("\x7a\xff\xff\xff\xff\x0f", "a length reaches past its end");
  expect("\x18", "bad varint");
  expect("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bad varint");
  expect(std::string("\x02\x00", 2), "field number 0");
  expect("\x0e", "unknown wire type");
  expect("\x0f", "unknown wire type");
  expect("\x80", "bad tag");
  expect(
      "\x29"
      "1234567",
      "cut off");
  expect("\x0c", "a group that did not begin");
  expect("\x0b\x14", "a group that did not begin");
  expect("\x0b", "a group does not end");
  expect(std::string(101, '\x0b'), "nested too deeply");
}

TEST(BulkFieldsTest, GeneratedClassesReadThePrefixes) {
  std::mt19937 random(6);
  for (const int64_t offset : {int64_t{0}, int64_t{1}, int64_t{1} << 21, std::numeric_limits<int64_t>::max()}) {
    const std::string data = RandomBytes(random, 100'000);
    const Fingerprint xxh3 = Xxh3(AsBytes(ToAbsl(data)));
    v1::FetchCheckpointResponse message;
    ASSERT_TRUE(message.ParseFromString(DataPrefix(offset, xxh3, static_cast<int64_t>(data.size())) + data));
    EXPECT_EQ(message.offset(), offset);
    EXPECT_EQ(ToAbsl(message.xxh3()), xxh3.AsKey());
    EXPECT_EQ(message.data(), data);
    EXPECT_TRUE(message.GetReflection()->GetUnknownFields(message).empty());

    ASSERT_TRUE(message.ParseFromString(ManifestPrefix(static_cast<int64_t>(data.size())) + data));
    EXPECT_EQ(message.manifest(), data);
    v1::FetchCheckpointResponse::Header header;
    header.set_plan("p");
    const std::string encoded = header.SerializeAsString();
    ASSERT_TRUE(message.ParseFromString(HeaderPrefix(static_cast<int64_t>(encoded.size())) + encoded));
    EXPECT_EQ(message.header().plan(), "p");
  }
}

}  // namespace
}  // namespace sconce::wire
