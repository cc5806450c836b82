#include "storage/blob/aligned_buffer.h"

#include <gtest/gtest.h>

#include <cstring>

namespace sconce::blob {
namespace {

TEST(AlignedBufferTest, StartsAtAPageAndIsWritableToItsEnd) {
  for (const int64_t capacity : {int64_t{4096}, int64_t{65536}, int64_t{4} << 20}) {
    AlignedBuffer buffer(capacity);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 4096, 0u);
    EXPECT_EQ(buffer.capacity(), capacity);
    std::memset(buffer.data(), 1, static_cast<size_t>(capacity));
  }
}

}  // namespace
}  // namespace sconce::blob
