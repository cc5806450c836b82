#ifndef SCONCE_SERVER_TORCH_RUNTIME_SYSCALL_FILTER_H_
#define SCONCE_SERVER_TORCH_RUNTIME_SYSCALL_FILTER_H_

#include <linux/filter.h>

#include <cstdint>
#include <vector>

namespace sconce::torch_runtime {

// The seccomp program of a process that computes and answers on `socket`: memory, threads, time, its own signals, and
// reading and writing of what is open already. `self` is its process id.
//
// What else it asks the kernel for fails with EPERM, so that a module that tries is told so; system calls that only an
// attack makes (execve, ptrace, fork, bpf, mount ...) end the process. clone3, whose flags no filter can see, is
// ENOSYS: libc then takes clone, which is allowed for threads only. Empty on a processor it was not written for.
std::vector<sock_filter> InferenceSyscalls(int socket, int64_t self);

// The same and what it takes to load a library: openat, to read, and seccomp, to allow less. For a process in which no
// path leads to a file.
std::vector<sock_filter> LoadingSyscalls(int socket, int64_t self);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_SYSCALL_FILTER_H_
