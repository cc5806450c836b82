#ifndef SCONCE_SERVER_INFERENCE_PRIORITY_H_
#define SCONCE_SERVER_INFERENCE_PRIORITY_H_

#include <sys/types.h>

// How what is only being prepared gives way to what serves: the kernel gives its core to whoever wakes up, at once
// (SCHED_IDLE; what only has a high nice value runs on for some milliseconds, which is what a request would wait). But
// where all cores are busy it gets next to nothing, so after a while it is to give way less. A thread may always lower
// its priority, but only one with rights gets it back: CAP_SYS_NICE, or a limit of nice values (RLIMIT_NICE) that
// reaches as high. docs/inference.md says how to give them.
namespace sconce::inference {

// Whether a process that we start at a low priority can be given ours later.
bool MayRaisePriority();

// While it lives, the calling thread, and with it what it starts, gives way to others. Nothing where MayRaisePriority
// is false.
class LowPriority {
 public:
  LowPriority();
  ~LowPriority();
  LowPriority(const LowPriority&) = delete;
  LowPriority& operator=(const LowPriority&) = delete;

 private:
  const bool lowered_;
  int nice_ = 0;  // before
};

// Has all threads of a child of ours give way to others.
void GiveWay(pid_t pid);
// Those of one that gives way get a little of a busy machine, too. Nothing where MayRaisePriority is false.
void GiveWayLess(pid_t pid);

// Gives all threads of a child of ours the priority that our process has. Nothing where MayRaisePriority is false.
void RaiseToOurPriority(pid_t pid);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_PRIORITY_H_
