#ifndef SCONCE_SERVER_INFERENCE_PRIORITY_H_
#define SCONCE_SERVER_INFERENCE_PRIORITY_H_

#include <sys/types.h>

// How what is only being prepared gives way to what serves. A thread may always lower its priority, but only one with
// rights gets it back: CAP_SYS_NICE, or a limit of nice values (RLIMIT_NICE) that reaches as high. docs/inference.md
// says how to give them.
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

// Gives all threads of a child of ours the priority that our process has. Nothing where MayRaisePriority is false.
void RaiseToOurPriority(pid_t pid);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_PRIORITY_H_
