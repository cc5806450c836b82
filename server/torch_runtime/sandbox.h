#ifndef SCONCE_SERVER_TORCH_RUNTIME_SANDBOX_H_
#define SCONCE_SERVER_TORCH_RUNTIME_SANDBOX_H_

#include <cstdint>
#include <string>

namespace sconce::torch_runtime {

struct SealOptions {
  int socket = -1;           // the one that answers go through
  int64_t memory_bytes = 0;  // that may be allocated from now on; 0: no limit
  int64_t file_bytes = 0;    // the most that a memfd may hold
};

// Takes from this process all rights that computing does not need, in three steps. What the kernel, or the container we
// run in, does not let us drop is left out; Describe says what was dropped.
//
// For the only thread of a process, and no other may be there at the first two steps: most rights belong to threads.
class Sandbox {
 public:
  // First thing in main(): no network, no view of other processes' mounts and IPC. Files can be opened still.
  Sandbox();

  // When everything that will be needed is open, loaded and mapped, and before any byte of a stranger is looked at.
  // From then on nothing can be connected, started or signalled, here and in all threads made later, and nothing opened
  // but, to be read, what this process has open already: that is how a library is loaded from memory. There is no way
  // back.
  void Seal(const SealOptions& options);

  // The path under which a library in `fd` can be opened until Close. Empty where system calls, or what of the file
  // system can be reached, could not be limited: then nothing can be opened since Seal, and native code of a stranger
  // must not be run.
  std::string LibraryPath(int fd) const;

  // When the module is known to need no library, or has been given it: nothing can be opened any more, in no thread.
  // From any thread. False when that failed.
  [[nodiscard]] bool Close();

  // For the log: "user net mount ipc root caps landlock-7 seccomp". "none" when nothing worked.
  std::string Describe() const;
  // Whether the system calls are filtered, which alone keeps a module from files and network.
  bool filtered() const { return filtered_; }

 private:
  void Note(bool done, const std::string& what);

  std::string done_;
  bool has_empty_root_ = false;  // mounted, not entered yet; it may have our descriptors in it
  bool filtered_ = false;
  int socket_ = -1;
  std::string descriptors_;  // the folder in which our own descriptors can be opened; empty: they cannot
};

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_SANDBOX_H_
