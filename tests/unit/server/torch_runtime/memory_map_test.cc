#include "server/torch_runtime/memory_map.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "server/torch_runtime/thrown.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::torch_runtime {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

std::string Pattern(int64_t size, int seed) {
  std::string bytes(static_cast<size_t>(size), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 251 + static_cast<size_t>(seed));
  return bytes;
}

class AssembleTest : public ::testing::Test {
 protected:
  AssembleTest() {
    content_ = Pattern(12 * kMiB + 100, 1);
    const std::string path = folder_ / "blob";
    std::ofstream(path, std::ios::binary) << content_;
    files_.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  }
  worker::StoredBytes Stored(std::vector<worker::Extent> extents) {
    worker::StoredBytes stored;
    for (const worker::Extent& extent : extents) stored.size_bytes += extent.size_bytes;
    stored.extents = std::move(extents);
    return stored;
  }
  void ExpectWhole(std::vector<worker::Extent> extents) {
    std::string expected;
    for (const worker::Extent& extent : extents) {
      expected += content_.substr(static_cast<size_t>(extent.offset), static_cast<size_t>(extent.size_bytes));
    }
    ASSERT_OK_AND_ASSIGN(const PrivateBytes bytes, Assemble(Stored(extents), files_, {}));
    ASSERT_EQ(bytes.size_bytes, static_cast<int64_t>(expected.size()));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data) % worker::kDataAlignment, 0u);
    EXPECT_TRUE(std::string(reinterpret_cast<const char*>(bytes.data), expected.size()) == expected);
    // Private: a write is seen here and by no one else.
    bytes.data[0] = static_cast<uint8_t>(~bytes.data[0]);
    char there;
    ASSERT_EQ(::pread(files_[0].get(), &there, 1, extents[0].offset), 1);
    EXPECT_EQ(there, expected[0]);
  }

  TempDir folder_;
  std::string content_;
  std::vector<UniqueFd> files_;
};

TEST_F(AssembleTest, OnePieceWhereverItLies) {
  ExpectWhole({{0, 0, 4 * kMiB}});
  ExpectWhole({{0, 4096 + 64, kMiB}});
  ExpectWhole({{0, 17, kMiB}});
  ExpectWhole({{0, 64, 1000}});
  ExpectWhole({{0, 12 * kMiB, 100}});
}

TEST_F(AssembleTest, SeveralPiecesAligned) {
  ExpectWhole({{0, 4 * kMiB, 4 * kMiB}, {0, 0, 4 * kMiB}, {0, 8 * kMiB, 5000}});
}

TEST_F(AssembleTest, SeveralPiecesOfWhichSomeCannotBeMapped) {
  ExpectWhole({{0, 64, 4 * kMiB}, {0, 4096, 4 * kMiB}, {0, 8 * kMiB, 100}});
  ExpectWhole({{0, 0, 4 * kMiB}, {0, 4 * kMiB + 64, 4 * kMiB}, {0, 8 * kMiB, 4 * kMiB}});
  // A short piece in the middle must not hide what follows it.
  ExpectWhole({{0, 0, kMiB + 10}, {0, 4 * kMiB, kMiB}, {0, 8 * kMiB, kMiB}});
}

TEST_F(AssembleTest, APieceOutsideItsFileIsRefused) {
  EXPECT_THAT(Assemble(Stored({{0, 12 * kMiB, 101}}), files_, {}), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(Assemble(Stored({{0, 13 * kMiB, kMiB}}), files_, {}), FailsWith(Reason::IO_ERROR));
}

TEST(EssentialLineTest, TakesTheMessageFromTheEndOfATraceback) {
  EXPECT_EQ(EssentialLine("The following operation failed in the TorchScript interpreter.\n"
                          "Traceback of TorchScript, serialized code (most recent call last):\n"
                          "  File \"x.py\", line 4, in forward\n"
                          "RuntimeError: mat1 and mat2 do not fit\n"),
            "mat1 and mat2 do not fit");
}

TEST(EssentialLineTest, TakesTheFirstLineOfOthers) {
  EXPECT_EQ(EssentialLine("\n  no such operator: x\nmore\n"), "no such operator: x");
  EXPECT_EQ(EssentialLine(""), "an exception without a message");
}

}  // namespace
}  // namespace sconce::torch_runtime
