#ifndef SCONCE_TESTS_SUPPORT_PARALLEL_BOUNDARIES_H_
#define SCONCE_TESTS_SUPPORT_PARALLEL_BOUNDARIES_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace sconce {

// Calls `test(n)` for n = first, first + stride, ... until one returns false (the work has fewer operations than that)
// or something failed. Many run at once: most of the time they sleep, as RocksDB does after a failure in its
// background.
template <typename Test>
void ForEachBoundary(const Test& test, int stride = 1, int first = 1, int threads = 16) {
  std::atomic<int> next{first};
  std::atomic<bool> ended{false};
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      while (!ended && !testing::Test::HasFailure()) {
        if (!test(next.fetch_add(stride))) ended = true;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
}

// Tests of every boundary where SCONCE_EVERY_BOUNDARY is set, of a sample else.
inline int SampleStride(int sampled) {
  return std::getenv("SCONCE_EVERY_BOUNDARY") != nullptr ? 1 : sampled;
}

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_PARALLEL_BOUNDARIES_H_
