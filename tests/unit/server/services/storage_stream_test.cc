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

std::string ReadAll(StorageStream& stream, int64_t step) {
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

TEST(StorageStreamTest, NothingIsAStreamToo) {
  StorageStream stream(std::make_shared<MemoryObject>(std::vector<size_t>{10}), {});
  EXPECT_EQ(stream.size_bytes(), 0);
  EXPECT_OK(stream.Seek(0));
  ASSERT_OK_AND_ASSIGN(const auto pieces, stream.Read(10));
  EXPECT_TRUE(pieces.empty());
}

}  // namespace
}  // namespace sconce::services
