#include "server/observability/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace sconce::observability {
namespace {

// Seconds since 1970 when the machine started: /proc/self/stat counts from there.
double BootTime() {
  std::ifstream stat("/proc/stat");
  std::string word;
  double seconds = 0;
  while (stat >> word) {
    if (word == "btime") {
      stat >> seconds;
      break;
    }
  }
  return seconds;
}

// The numbers of /proc/self/stat behind the program's name (which may hold anything), proc(5)'s field 3 first.
std::vector<double> StatFields() {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  const size_t end = text.rfind(')');
  std::istringstream rest(end == std::string::npos ? "" : text.substr(end + 1));
  std::string state;
  rest >> state;
  std::vector<double> fields = {0};
  for (double value; rest >> value;) fields.push_back(value);
  fields.resize(50);
  return fields;
}

}  // namespace

std::vector<Family> ProcessMetrics() {
  const std::vector<double> stat = StatFields();
  const auto field = [&stat](size_t number) { return stat[number - 3]; };  // as proc(5) numbers them
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  std::error_code error;
  double open_fds = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    open_fds += entry.path().empty() ? 0 : 1;
  }
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  return {
      Counter("process_cpu_seconds_total", "User and system CPU time.", (field(14) + field(15)) / ticks),
      Gauge("process_open_fds", "Open file descriptors.", open_fds),
      Gauge("process_max_fds", "How many there may be.", static_cast<double>(files.rlim_cur)),
      Gauge("process_virtual_memory_bytes", "Address space; mapped checkpoints are in it.", field(23)),
      Gauge("process_resident_memory_bytes", "Memory in use; the page cache of mapped checkpoints is in it.",
            field(24) * static_cast<double>(::sysconf(_SC_PAGESIZE))),
      Gauge("process_threads", "Threads.", field(20)),
      Gauge("process_start_time_seconds", "When the process started, since 1970.", BootTime() + field(22) / ticks),
  };
}

}  // namespace sconce::observability
