#include "server/inference/memory_room.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "tests/support/temp_dir.h"

namespace sconce::inference {
namespace {

class MemoryRoomTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& content) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << content;
  }
  const TempDir folder_;
  const std::string root_ = folder_ / "root";
};

TEST_F(MemoryRoomTest, TheMachineTellsWithoutALimit) {
  Write("/proc/meminfo", "MemTotal: 100 kB\nMemAvailable:    50 kB\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 50 * 1024);
}

TEST_F(MemoryRoomTest, TheTightestGroupAroundUsCounts) {
  Write("/proc/meminfo", "MemAvailable: 1000 kB\n");
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  Write("/sys/fs/cgroup/a/b/memory.current", "70000\n");
  Write("/sys/fs/cgroup/a/memory.max", "100000\n");
  Write("/sys/fs/cgroup/a/memory.current", "90000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 10000);
  Write("/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 2500\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 12500);
  Write("/sys/fs/cgroup/a/memory.current", "200000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 0);
}

TEST_F(MemoryRoomTest, WithoutAnyWordThereIsNoLimit) {
  EXPECT_EQ(AvailableMemoryBytes(root_), std::numeric_limits<int64_t>::max());
  EXPECT_GT(AvailableMemoryBytes(), 0);
}

TEST(OwnMemoryBytesTest, CountsWhatIsTouchedAndNotWhatIsMapped) {
  constexpr size_t kBytes = size_t{64} << 20;
  const int64_t before = OwnMemoryBytes(::getpid());
  ASSERT_GT(before, 0);
  void* mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_LT(OwnMemoryBytes(::getpid()), before + static_cast<int64_t>(kBytes) / 2);
  std::memset(mapped, 1, kBytes);
  EXPECT_GE(OwnMemoryBytes(::getpid()), before + static_cast<int64_t>(kBytes) / 2);
  ::munmap(mapped, kBytes);
  EXPECT_EQ(OwnMemoryBytes(-1), 0);
}

}  // namespace
}  // namespace sconce::inference
