#include "server/inference/priority.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sconce::inference {
namespace {

constexpr int kNice = 15;
// The kernel's scheduler (since 6.12) lets a thread run this long before one that wakes up takes its place, whatever
// their priorities; by itself it takes some milliseconds, which is what a request would wait. The shortest there is.
constexpr uint64_t kShortSliceNanos = 100'000;

// As the kernel has it; the C library of Debian 12 does not.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // of one slice; 0: the default
  uint64_t deadline = 0;
  uint64_t period = 0;
};

// `thread` 0 is the calling one.
bool Schedule(pid_t thread, int policy, int nice, uint64_t slice_nanos = 0) {
  SchedulingAttributes attributes;
  attributes.policy = static_cast<uint32_t>(policy);
  attributes.nice = nice;
  attributes.runtime = slice_nanos;
  if (::syscall(SYS_sched_setattr, thread, &attributes, 0) == 0) return true;
  const sched_param none{};  // where a filter knows the old calls only
  return ::sched_setscheduler(thread, policy, &none) == 0 &&
         ::setpriority(PRIO_PROCESS, static_cast<id_t>(thread), nice) == 0;
}

int NiceOf(pid_t thread) {
  return ::getpriority(PRIO_PROCESS, static_cast<id_t>(thread));
}

void ScheduleAll(pid_t pid, int policy, int nice, uint64_t slice_nanos = 0) {
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/task"), error)) {
    int id = 0;
    if (absl::SimpleAtoi(thread.path().filename().string(), &id)) Schedule(id, policy, nice, slice_nanos);
  }
}

// On a thread of its own, which may end with a priority that it cannot get back.
bool TryToRaise() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NICE, &limit) == 0) {  // what we may have is of no use before we take it
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NICE, &limit);
  }
  bool raised = false;
  std::thread trial([&raised] {
    const int nice = NiceOf(0);
    raised = Schedule(0, SCHED_IDLE, nice) && Schedule(0, SCHED_OTHER, nice) && ::sched_getscheduler(0) == SCHED_OTHER;
  });
  trial.join();
  return raised;
}

}  // namespace

bool MayRaisePriority() {
  static const bool may = TryToRaise();
  return may;
}

LowPriority::LowPriority() : lowered_(MayRaisePriority()) {
  if (!lowered_) return;
  nice_ = NiceOf(0);
  Schedule(0, SCHED_IDLE, nice_);
}

LowPriority::~LowPriority() {
  if (lowered_) Schedule(0, SCHED_OTHER, nice_);
}

void GiveWay(pid_t pid) {
  ScheduleAll(pid, SCHED_IDLE, NiceOf(pid));
}

void GiveWayLess(pid_t pid) {
  if (MayRaisePriority()) ScheduleAll(pid, SCHED_OTHER, std::max(NiceOf(pid), kNice), kShortSliceNanos);
}

void RaiseToOurPriority(pid_t pid) {
  if (MayRaisePriority()) ScheduleAll(pid, SCHED_OTHER, NiceOf(::getpid()));
}

}  // namespace sconce::inference
