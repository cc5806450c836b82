#include "server/services/storage_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::services {
namespace {

// A stored object in memory that counts the chunks it is asked for.
class MemoryObject final : public repository::StoredObject {
 public:
  explicit MemoryObject(const std::vector<size_t>& sizes) {
    for (const size_t size : sizes) {
      std::string bytes(size, '\0');
      for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + i / 257 + size);
      format::Storage storage;
      storage.size_bytes = static_cast<int64_t>(size);
      if (!format::IsBulk(storage)) storage.inline_bytes = bytes;
      manifest_.storages.push_back(std::move(storage));
      bytes_.push_back(std::move(bytes));
    }
  }
  const format::Manifest& manifest() const override { return manifest_; }
  ByteSpan manifest_bytes() const override { return {}; }
  absl::StatusOr<repository::MappedBytes> ReadChunk(format::StorageIndex storage, int64_t chunk) const override {
    ++reads;
    if (reads == fail_at) return MakeError(Reason::CHUNK_CORRUPT, "rotten");
    const ByteSpan all = AsBytes(ToAbsl(bytes_[storage]));
    return repository::MappedBytes{all.subspan(static_cast<size_t>(chunk * format::kChunkBytes), format::kChunkBytes),
                                   nullptr};
  }
  repository::Extent Locate(format::StorageIndex, int64_t) const override { return {}; }

  std::string Joined(const std::vector<format::StorageIndex>& storages) const {
    std::string all;
    for (const format::StorageIndex storage : storages) all += bytes_[storage];
    return all;
  }

  mutable int reads = 0;
  int fail_at = 0;

 private:
  format::Manifest manifest_;
  std::vector<std::string> bytes_;
};

std::string ReadAll(BulkStream& stream, int64_t step) {
  std::string all;
  while (stream.position() < stream.size_bytes()) {
    const int64_t expected = std::min(step, stream.size_bytes() - stream.position());
    const auto pieces = stream.Read(step);
    EXPECT_OK(pieces);
    if (!pieces.ok()) break;
    const size_t before = all.size();
    for (const wire::SharedBytes& piece : *pieces) all += std::string(ToStd(AsText(piece.bytes)));
    EXPECT_EQ(static_cast<int64_t>(all.size() - before), expected);
  }
  return all;
}

TEST(StorageStreamTest, JoinsStoragesOfEverySizeInTheOrderGiven) {
  const auto object = std::make_shared<MemoryObject>(std::vector<size_t>{5'000'000, 0, 700, 2000, 0, 4 << 20, 1025, 0});
  const std::vector<format::StorageIndex> order = {3, 1, 0, 4, 2, 5, 6, 7};
  for (const int64_t step : {int64_t{1} << 21, int64_t{999'999}, int64_t{1} << 30}) {
    StorageStream stream(object, order);
    EXPECT_TRUE(ReadAll(stream, step) == object->Joined(order)) << step;
  }
}

TEST(StorageStreamTest, ReadsEveryChunkOnce) {
  const auto object = std::make_shared<MemoryObject>(std::vector<size_t>{9'000'000, 2000});
  StorageStream stream(object, {0, 1});
  ReadAll(stream, 100'000);
  EXPECT_EQ(object->reads, 4);
}

TEST(StorageStreamTest, SeeksToAnyPlaceAndNowhereElse) {
  const auto object = std::make_shared<MemoryObject>(std::vector<size_t>{5000, 0, 0, 6'000'000, 1030});
  const std::string all = object->Joined({0, 1, 2, 3, 4});
  StorageStream stream(object, {0, 1, 2, 3, 4});
  const auto size = static_cast<int64_t>(all.size());
  for (const int64_t offset : {int64_t{0}, int64_t{4999}, int64_t{5000}, int64_t{4'199'303}, int64_t{4'199'304},
                               int64_t{6'005'000}, size - 1, size}) {
    ASSERT_OK(stream.Seek(offset));
    EXPECT_TRUE(ReadAll(stream, 1 << 21) == all.substr(static_cast<size_t>(offset))) << offset;
  }
  EXPECT_THAT(stream.Seek(-1), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
  EXPECT_THAT(stream.Seek(size + 1), FailsWith(Reason::OFFSET_OUT_OF_RANGE));
}

TEST(StorageStreamTest, AChunkThatCannotBeReadIsAnError) {
  const auto object = std::make_shared<MemoryObject>(std::vector<size_t>{9'000'000});
  object->fail_at = 2;
  StorageStream stream(object, {0});
  ASSERT_OK(stream.Read(format::kChunkBytes));
  EXPECT_THAT(stream.Read(1), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_EQ(object->reads, 2);
}

// The storages of an object as a StorageBytes.
class ObjectBytes final : public format::StorageBytes {
 public:
  explicit ObjectBytes(std::shared_ptr<const MemoryObject> object) : object_(std::move(object)) {}
  absl::Status Read(format::StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    if (storage == 9) return MakeError(Reason::CHUNK_CORRUPT, "rotten");
    const std::string bytes = object_->Joined({storage});
    EXPECT_LE(static_cast<size_t>(offset) + out.size(), bytes.size());
    std::copy_n(bytes.data() + offset, out.size(), out.data());
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const MemoryObject> object_;
};

TEST(MadeStreamTest, GivesTheSameStreamInMessagesOfItsOwn) {
  const auto object = std::make_shared<MemoryObject>(std::vector<size_t>{5000, 0, 3'000'000, 1030, 8, 7000});
  const std::vector<format::StorageIndex> storages = {0, 1, 2, 3, 5};
  const std::string all = object->Joined(storages);
  MadeStream stream(storages, object->manifest(), std::make_unique<ObjectBytes>(object));
  EXPECT_EQ(stream.size_bytes(), static_cast<int64_t>(all.size()));
  for (const int64_t step : {int64_t{1000}, int64_t{5001}, int64_t{2} << 20}) {
    for (const int64_t offset : {int64_t{0}, int64_t{4999}, int64_t{5000}, int64_t{3'004'999}, stream.size_bytes()}) {
      ASSERT_OK(stream.Seek(offset));
      EXPECT_TRUE(ReadAll(stream, step) == all.substr(static_cast<size_t>(offset))) << step << " " << offset;
    }
  }
  ASSERT_OK(stream.Seek(0));
  ASSERT_OK_AND_ASSIGN(const auto first, stream.Read(100));  // what is held is not overwritten
  ASSERT_OK_AND_ASSIGN(const auto second, stream.Read(int64_t{1} << 40));
  EXPECT_EQ(AsText(first[0].bytes), ToAbsl(all).substr(0, 100));
  EXPECT_EQ(second[0].bytes.size(), size_t{2} << 20);
}

TEST(MadeStreamTest, AnErrorOfTheBytesIsTheAnswer) {
  const auto object = std::make_shared<MemoryObject>(std::vector<size_t>(10, 2000));
  MadeStream stream({0, 9}, object->manifest(), std::make_unique<ObjectBytes>(object));
  ASSERT_OK(stream.Read(2000));
  EXPECT_THAT(stream.Read(1), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(StorageStreamTest, NothingIsAStreamToo) {
  StorageStream stream(std::make_shared<MemoryObject>(std::vector<size_t>{10}), {});
  EXPECT_EQ(stream.size_bytes(), 0);
  EXPECT_OK(stream.Seek(0));
  ASSERT_OK_AND_ASSIGN(const auto pieces, stream.Read(10));
  EXPECT_TRUE(pieces.empty());
}

}  // namespace
}  // namespace sconce::services
