#include "storage/blob/aligned_buffer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

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

TEST(BufferPoolTest, GivesTheSameMemoryAgain) {
  BufferPool pool(1, 4096);
  BufferPool::Handle first = pool.Acquire();
  const uint8_t* const memory = first->data();
  first.reset();
  EXPECT_EQ(pool.Acquire()->data(), memory);
}

TEST(BufferPoolTest, NeverHasMoreBuffersOutThanItWasGiven) {
  BufferPool pool(3, 4096);
  std::atomic<int> out{0}, most{0}, rounds{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const BufferPool::Handle buffer = pool.Acquire();
        const int now = ++out;
        int seen = most;
        while (seen < now && !most.compare_exchange_weak(seen, now)) {
        }
        buffer->data()[0] = 1;
        ++rounds;
        --out;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(rounds, 1600);
  EXPECT_LE(most, 3);
}

}  // namespace
}  // namespace sconce::blob
