#include "server/inference/memory_room.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sconce::inference {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// The number behind `key` in a file of "key number" lines.
std::optional<int64_t> ReadField(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    int64_t number;
    if (words >> name >> number && name == key) return number;
  }
  return std::nullopt;
}

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  int64_t number;
  if (!(file >> word) || !absl::SimpleAtoi(word, &number)) return std::nullopt;  // "max" is no limit
  return number;
}

// What one control group leaves.
int64_t RoomIn(const std::string& folder) {
  const std::optional<int64_t> most = ReadNumber(folder + "/memory.max");
  const std::optional<int64_t> used = ReadNumber(folder + "/memory.current");
  if (!most.has_value() || !used.has_value()) return kNoLimit;
  const int64_t droppable = ReadField(folder + "/memory.stat", "inactive_file").value_or(0);
  return std::max<int64_t>(0, *most - *used + droppable);
}

// "/user.slice/x.service" of the line "0::/user.slice/x.service".
std::string ControlGroup(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, 3, "0::") == 0) return line.substr(3);
  }
  return "";
}

}  // namespace

int64_t AvailableMemoryBytes(const std::string& root) {
  int64_t room = kNoLimit;
  if (const auto kilobytes = ReadField(root + "/proc/meminfo", "MemAvailable:")) room = *kilobytes * 1024;
  // A group's limit holds for those inside it too.
  std::string group = ControlGroup(root);
  while (true) {
    room = std::min(room, RoomIn(root + "/sys/fs/cgroup" + group));
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return room;
    group.resize(slash);
  }
}

int64_t OwnMemoryBytes(pid_t pid) {
  std::ifstream statm(absl::StrCat("/proc/", pid, "/statm"));
  int64_t size = 0, resident = 0, of_files = 0;
  if (!(statm >> size >> resident >> of_files)) return 0;
  return (resident - of_files) * ::sysconf(_SC_PAGESIZE);
}

}  // namespace sconce::inference
