#include "storage/format/row_major_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

// The elements in row-major order, one by one.
std::string Naive(const TensorView& view, const std::string& storage) {
  std::string out;
  const auto element = static_cast<size_t>(ElementBytes(view.dtype));
  const int64_t count = ElementCount(view.shape);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, at = view.offset;
    for (size_t d = view.shape.size(); d-- > 0;) {
      at += rest % view.shape[d] * view.stride[d];
      rest /= view.shape[d];
    }
    out += storage.substr(static_cast<size_t>(at) * element, element);
  }
  return out;
}

std::string Pattern(size_t size) {
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(i * 7 + i / 251));
  return bytes;
}

TEST(RowMajorReaderTest, RowMajorViewsAreToldByShapeAndStride) {
  const auto is = [](Dims shape, Dims stride) {
    TensorView view;
    view.shape = shape;
    view.stride = stride;
    return IsRowMajor(view);
  };
  EXPECT_TRUE(is({}, {}));
  EXPECT_TRUE(is({2, 3}, {3, 1}));
  EXPECT_TRUE(is({2, 1, 3}, {3, 99, 1}));
  EXPECT_TRUE(is({0, 3}, {7, 7}));
  EXPECT_FALSE(is({3, 2}, {1, 3}));
  EXPECT_FALSE(is({2, 3}, {4, 1}));
  EXPECT_FALSE(is({4}, {0}));
}

TEST(RowMajorReaderTest, AnyViewInAnyPiecesIsAsElementByElement) {
  std::mt19937 random(20240611);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int round = 0; round < 400; ++round) {
    TensorView view;
    constexpr DType kTypes[] = {DType::kUInt8, DType::kInt16, DType::kFloat32, DType::kComplex128};
    view.dtype = kTypes[below(4)];
    view.offset = below(5);
    for (int64_t d = below(5); d > 0; --d) {
      view.shape.push_back(1 + below(7));
      view.stride.push_back(below(30));
    }
    const std::string bytes = Pattern(static_cast<size_t>(ViewEndBytes(view) + below(100)));
    ManifestBuilder b;
    view.storage =
        bytes.size() > kInlineStorageBytes ? b.Storage(static_cast<int64_t>(bytes.size())) : b.InlineStorage(bytes);
    b.View(view);
    const Manifest manifest = b.Build();
    FileBytes source({AsBytes(bytes)});
    const std::string expected = Naive(view, bytes);
    RowMajorReader reader(manifest, manifest.tensors[0], source, 16 + below(200));
    ASSERT_EQ(reader.size_bytes(), static_cast<int64_t>(expected.size()));
    std::string got(expected.size(), '\0');
    for (size_t at = 0; at < got.size();) {
      const size_t piece = std::min(got.size() - at, static_cast<size_t>(1 + below(50)));
      ASSERT_OK(
          reader.Read(static_cast<int64_t>(at), absl::MakeSpan(reinterpret_cast<uint8_t*>(got.data()) + at, piece)));
      at += piece;
    }
    ASSERT_EQ(got, expected) << "round " << round;
    uint8_t last = 0;  // anywhere, also backwards
    ASSERT_OK(reader.Read(0, absl::MakeSpan(&last, 1)));
    EXPECT_EQ(static_cast<char>(last), expected[0]);
  }
}

// Storages are read in chunks that are checked when they are entered: how often a chunk is entered again.
class CountingBytes : public StorageBytes {
 public:
  absl::Status Read(StorageIndex, int64_t offset, absl::Span<uint8_t> out) override {
    if (offset / kChunkBytes != chunk_) ++entered;
    chunk_ = offset / kChunkBytes;
    std::fill(out.begin(), out.end(), uint8_t{0});
    return absl::OkStatus();
  }
  int64_t entered = 0;

 private:
  int64_t chunk_ = -1;
};

TEST(RowMajorReaderTest, TransposedMatrixIsReadInFewPasses) {
  TensorView view;
  view.shape = {8192, 2048};  // of a row-major [2048, 8192] of floats: 64 MiB, 16 chunks
  view.stride = {1, 8192};
  ManifestBuilder b;
  view.storage = b.Storage(int64_t{64} << 20);
  b.View(view);
  const Manifest manifest = b.Build();
  CountingBytes bytes;
  RowMajorReader reader(manifest, manifest.tensors[0], bytes);
  std::vector<uint8_t> piece(size_t{1} << 20);
  for (int64_t at = 0; at < reader.size_bytes(); at += static_cast<int64_t>(piece.size()))
    ASSERT_OK(reader.Read(at, absl::MakeSpan(piece)));
  EXPECT_LE(bytes.entered, 4 * 16);
}

TEST(RowMajorReaderTest, ErrorsOfTheBytesAreReturned) {
  class Broken : public StorageBytes {
    absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t>) override {
      return MakeError(Reason::IO_ERROR, "no disk");
    }
  } broken;
  TensorView view;
  view.shape = {100, 100};
  view.stride = {1, 100};
  ManifestBuilder b;
  view.storage = b.Storage(40000);
  b.View(view);
  const Manifest manifest = b.Build();
  RowMajorReader reader(manifest, manifest.tensors[0], broken);
  uint8_t byte = 0;
  EXPECT_THAT(reader.Read(0, absl::MakeSpan(&byte, 1)), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(reader.Read(0, absl::MakeSpan(&byte, 1)), FailsWith(Reason::IO_ERROR));
}

}  // namespace
}  // namespace sconce::format
