#include "server/torch_runtime/syscall_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <optional>
#include <utility>

namespace sconce::torch_runtime {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kArchitecture = 0;
#endif

// The flags of glibc's pthread_create, and nothing else: no process and no namespace can be made with them.
constexpr uint32_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD |
                                  CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

constexpr long kAllowed[] = {
    // Waiting and memory, the most frequent first.
    __NR_futex,
    __NR_read,
    __NR_write,
    __NR_ppoll,
#ifdef __NR_poll
    __NR_poll,
#endif
    __NR_mmap,
    __NR_munmap,
    __NR_mremap,
    __NR_mprotect,
    __NR_madvise,
    __NR_brk,
    __NR_membarrier,
    // What is open already, and shared memory without a name.
    __NR_pread64,
    __NR_preadv,
    __NR_readv,
    __NR_writev,
    __NR_lseek,
    __NR_fstat,
    __NR_close,
    __NR_dup,
    __NR_memfd_create,
    // Threads.
    __NR_exit,
    __NR_exit_group,
    __NR_gettid,
    __NR_getpid,
    __NR_getppid,
    __NR_set_robust_list,
#ifdef __NR_rseq
    __NR_rseq,
#endif
    __NR_set_tid_address,
    __NR_sched_yield,
    __NR_sched_getaffinity,
    __NR_sched_getparam,
    __NR_sched_getscheduler,
    __NR_sched_get_priority_max,
    __NR_sched_get_priority_min,
    __NR_getcpu,
    __NR_getpriority,
    // Time.
    __NR_clock_gettime,
    __NR_clock_getres,
    __NR_clock_nanosleep,
    __NR_nanosleep,
    __NR_gettimeofday,
    __NR_getrusage,
    __NR_times,
    __NR_restart_syscall,
#ifdef __NR_time
    __NR_time,
#endif
    // Its own signal handlers.
    __NR_rt_sigaction,
    __NR_rt_sigprocmask,
    __NR_rt_sigreturn,
    __NR_sigaltstack,
    // Facts about itself and the machine.
    __NR_getrandom,
    __NR_uname,
    __NR_sysinfo,
    __NR_getuid,
    __NR_geteuid,
    __NR_getgid,
    __NR_getegid,
};

// No inference needs them, and each is a step of a known escape.
constexpr long kDeadly[] = {
    __NR_execve,
    __NR_execveat,
#ifdef __NR_fork
    __NR_fork,
    __NR_vfork,
#endif
    __NR_ptrace,
    __NR_process_vm_readv,
    __NR_process_vm_writev,
    __NR_bpf,
    __NR_perf_event_open,
    __NR_userfaultfd,
#ifdef __NR_io_uring_setup
    __NR_io_uring_setup,
    __NR_io_uring_enter,
    __NR_io_uring_register,
#endif
    __NR_keyctl,
    __NR_add_key,
    __NR_request_key,
    __NR_mount,
    __NR_umount2,
    __NR_pivot_root,
    __NR_chroot,
    __NR_unshare,
    __NR_setns,
    __NR_init_module,
    __NR_finit_module,
    __NR_kexec_load,
    __NR_open_by_handle_at,
};

// Allowed when the lower half of one argument is one of some values, and that of another, if any, is zero.
struct Conditional {
  long number;
  uint32_t argument;
  std::vector<uint32_t> values;
  std::optional<uint32_t> zero_argument = std::nullopt;
  int refusal = EPERM;
};

std::vector<Conditional> Conditionals(int socket, int64_t self) {
  const auto channel = static_cast<uint32_t>(socket);
  return {
      {__NR_recvmsg, 0, {channel}},
      {__NR_sendmsg, 0, {channel}},
      {__NR_clone, 0, {kThreadFlags}},
      // Signals to itself: abort().
      {__NR_tgkill, 0, {static_cast<uint32_t>(self)}},
      // Limits of itself; what is lowered cannot be raised again.
      {__NR_prlimit64, 0, {0}},
      // The priority of the thread that asks, by which loading gives way.
      {__NR_setpriority, 0, {PRIO_PROCESS}, 1},
      // fstat, as newer libcs spell it. By a name there is nothing: LibTorch 2.14 looks for a file beside a library,
      // and takes any other error for a broken package.
      {__NR_newfstatat, 3, {AT_EMPTY_PATH}, std::nullopt, ENOENT},
      {__NR_fcntl, 1, {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS}},
      {__NR_prctl, 0, {PR_SET_NAME, PR_GET_NAME}},
  };
}

class Program {
 public:
  void Statement(uint16_t code, uint32_t value) { instructions_.push_back(BPF_STMT(code, value)); }
  void Return(uint32_t action) { Statement(BPF_RET | BPF_K, action); }
  void Load(size_t offset) { Statement(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }
  // The lower half: both architectures are little-endian.
  void LoadArgument(uint32_t number) { Load(offsetof(seccomp_data, args) + number * sizeof(uint64_t)); }
  // Skips the next `count` instructions unless the loaded value is `value`.
  void SkipUnless(uint32_t value, size_t count) {
    instructions_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, static_cast<uint8_t>(count)));
  }
  void SkipIf(uint32_t value, size_t count) {
    instructions_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, static_cast<uint8_t>(count), 0));
  }
  void SkipIfLess(uint32_t value, size_t count) {
    instructions_.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, 0, static_cast<uint8_t>(count)));
  }
  void ReturnIf(long number, uint32_t action) {
    SkipUnless(static_cast<uint32_t>(number), 1);
    Return(action);
  }
  std::vector<sock_filter> Take() { return std::move(instructions_); }

 private:
  std::vector<sock_filter> instructions_;
};

constexpr uint32_t Errno(int error) {
  return SECCOMP_RET_ERRNO | (static_cast<uint32_t>(error) & SECCOMP_RET_DATA);
}

std::vector<sock_filter> Allow(const std::vector<Conditional>& conditionals) {
  if (kArchitecture == 0) return {};
  constexpr uint32_t kX32Bit = 0x40000000;  // the other numbering of x86_64
  Program program;
  program.Load(offsetof(seccomp_data, arch));
  program.SkipIf(kArchitecture, 1);
  program.Return(SECCOMP_RET_KILL_PROCESS);
  program.Load(offsetof(seccomp_data, nr));
  program.SkipIfLess(kX32Bit, 1);
  program.Return(SECCOMP_RET_KILL_PROCESS);
  for (const Conditional& one : conditionals) {
    const size_t checks = (one.zero_argument.has_value() ? 3 : 0) + 2 + 2 * one.values.size();
    program.SkipUnless(static_cast<uint32_t>(one.number), checks);
    if (one.zero_argument.has_value()) {
      program.LoadArgument(*one.zero_argument);
      program.SkipIf(0, 1);
      program.Return(Errno(EPERM));
    }
    program.LoadArgument(one.argument);
    for (const uint32_t value : one.values) program.ReturnIf(static_cast<long>(value), SECCOMP_RET_ALLOW);
    program.Return(Errno(one.refusal));
  }
  for (const long number : kAllowed) program.ReturnIf(number, SECCOMP_RET_ALLOW);
#ifdef __NR_clone3
  program.ReturnIf(__NR_clone3, Errno(ENOSYS));
#endif
  for (const long number : kDeadly) program.ReturnIf(number, SECCOMP_RET_KILL_PROCESS);
  program.Return(Errno(EPERM));
  return program.Take();
}

}  // namespace

std::vector<sock_filter> InferenceSyscalls(int socket, int64_t self) {
  return Allow(Conditionals(socket, self));
}

std::vector<sock_filter> LoadingSyscalls(int socket, int64_t self) {
  std::vector<Conditional> conditionals = Conditionals(socket, self);
  conditionals.push_back({__NR_openat, 2, {O_RDONLY | O_CLOEXEC, O_RDONLY}});
  conditionals.push_back({__NR_seccomp, 1, {SECCOMP_FILTER_FLAG_TSYNC}});
  return Allow(conditionals);
}

}  // namespace sconce::torch_runtime
