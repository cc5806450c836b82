#include "server/torch_runtime/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/torch_runtime/syscall_filter.h"

// The three steps, and what each is for. A later wall holds what an earlier one lets through.
//
// At the start of the process (Sandbox()):
//
//   1. Be the first that the kernel ends when memory runs out: better one model than the store.
//   2. Namespaces of its own: user (so that rights of root end here), net (no interface is up), ipc, uts, and mount, in
//      which a folder that cannot be written, of nothing but this process's own descriptors, is made ready to be the
//      root.
//   3. No new privileges, by whatever is executed.
//
// When the module's bytes are at hand but not looked at (Seal()):
//
//   4. Limits: no core (weights would lie in it), memory, the size of a memfd, descriptors.
//   5. That folder becomes the root, so that no path names anything else.
//   6. All capabilities go, and the bounding set with them.
//   7. Not dumpable: nobody attaches, and /proc/self is not its own.
//   8. Landlock: no file can be opened, no TCP socket bound or connected, no signal sent out, whatever the root is.
//   9. seccomp: the system calls of inference, for all threads. Last, since it forbids everything above. When 5 or 8
//      stands, openat for reading is left, with which a memfd can be opened again and a library in it be loaded.
//
// When the module's library is loaded, or is known to have none (Close()):
//
//  10. seccomp once more, without openat.
//
// A library's own code runs while it is loaded, so it has what 9 leaves, even if it never returns. That is: to read
// once more what is open. Files' descriptors are read-only, and Landlock does not let them be opened a second time.
namespace sconce::torch_runtime {
namespace {

// From linux/landlock.h of kernel 6.12; Debian 12's ends at 6.1.
struct LandlockRules {
  uint64_t handled_files = 0;
  uint64_t handled_net = 0;
  uint64_t scoped = 0;
};
constexpr uint64_t kLandlockNetBindAndConnect = 3;
constexpr uint64_t kLandlockScopeSocketsAndSignals = 3;

constexpr rlim_t kDescriptors = 256;

void WriteText(const char* path, const char* text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  (void)!::write(fd, text, std::char_traits<char>::length(text));  // a preference, nothing depends on it
  ::close(fd);
}

// What our root is going to be, in a mount namespace of our own, over a directory that is there on every machine.
enum class EmptyRoot { kNone, kNothing, kOurDescriptors };

EmptyRoot MountEmptyRoot() {
  constexpr unsigned long kFlags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return EmptyRoot::kNone;
  if (::mount("none", "/tmp", "tmpfs", kFlags, "size=4k,mode=555") != 0) return EmptyRoot::kNone;
  if (::mount("/proc/self/fd", "/tmp", nullptr, MS_BIND, nullptr) != 0) return EmptyRoot::kNothing;
  return ::mount(nullptr, "/tmp", nullptr, MS_REMOUNT | MS_BIND | kFlags, nullptr) == 0 ? EmptyRoot::kOurDescriptors
                                                                                        : EmptyRoot::kNone;
}

bool EnterEmptyRoot() {
  return ::chroot("/tmp") == 0 && ::chdir("/") == 0;
}

bool DropCapabilities() {
  for (int capability = 0; capability < 64; ++capability) ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  return ::syscall(SYS_capset, &header, none) == 0;
}

// Every right over files that this kernel knows, for no file at all. Returns the version of Landlock, 0 without it.
int Landlock() {
  const auto version =
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
  if (version < 1) return 0;
  constexpr int kFileRights[] = {13, 14, 15, 15, 16};  // of versions 1 to 5, each one bit
  LandlockRules rules;
  rules.handled_files = (uint64_t{1} << kFileRights[std::min(version, 5) - 1]) - 1;
  size_t size = sizeof(rules.handled_files);
  if (version >= 4) {
    rules.handled_net = kLandlockNetBindAndConnect;
    size = 2 * sizeof(uint64_t);
  }
  if (version >= 6) {
    rules.scoped = kLandlockScopeSocketsAndSignals;
    size = sizeof(rules);
  }
  const auto ruleset = static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rules, size, 0));
  if (ruleset < 0) return 0;
  const bool restricted = ::syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
  ::close(ruleset);
  return restricted ? version : 0;
}

bool FilterSyscalls(std::vector<sock_filter> instructions) {
  if (instructions.empty()) return false;
  sock_fprog program{};
  program.len = static_cast<unsigned short>(instructions.size());
  program.filter = instructions.data();
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

void Limit(__rlimit_resource resource, rlim_t most) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return;
  limit.rlim_max = std::min(limit.rlim_max, most);
  limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
  ::setrlimit(resource, &limit);
}

// Of what RLIMIT_DATA counts: private memory that can be written, stacks among it.
int64_t DataBytesNow() {
  FILE* statm = ::fopen("/proc/self/statm", "re");
  if (statm == nullptr) return 0;
  long data_pages = 0;
  if (::fscanf(statm, "%*d %*d %*d %*d %*d %ld", &data_pages) != 1) data_pages = 0;
  ::fclose(statm);
  return int64_t{data_pages} * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

Sandbox::Sandbox() {
  WriteText("/proc/self/oom_score_adj", "800");
  // Without a user namespace the others need rights that only root has, and with one they may still be forbidden.
  Note(::unshare(CLONE_NEWUSER) == 0, "user");
  Note(::unshare(CLONE_NEWNET) == 0, "net");
  Note(::unshare(CLONE_NEWIPC) == 0, "ipc");
  Note(::unshare(CLONE_NEWUTS) == 0, "uts");
  const bool has_mounts = ::unshare(CLONE_NEWNS) == 0;
  Note(has_mounts, "mount");
  const EmptyRoot root = has_mounts ? MountEmptyRoot() : EmptyRoot::kNone;
  has_empty_root_ = root != EmptyRoot::kNone;
  if (root == EmptyRoot::kOurDescriptors) descriptors_ = "/";
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

void Sandbox::Seal(const SealOptions& options) {
  if (options.memory_bytes > 0) Limit(RLIMIT_DATA, static_cast<rlim_t>(DataBytesNow() + options.memory_bytes));
  if (options.file_bytes > 0) Limit(RLIMIT_FSIZE, static_cast<rlim_t>(options.file_bytes));
  Limit(RLIMIT_CORE, 0);
  Limit(RLIMIT_NOFILE, kDescriptors);
  const bool in_empty_root = has_empty_root_ && EnterEmptyRoot();
  Note(in_empty_root, "root");
  Note(DropCapabilities(), "caps");
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const int landlock = Landlock();
  Note(landlock > 0, absl::StrCat("landlock-", landlock));
  socket_ = options.socket;
  if (!in_empty_root) descriptors_ = landlock > 0 ? "/proc/self/fd/" : "";
  const bool may_load = !descriptors_.empty();
  filtered_ = FilterSyscalls(may_load ? LoadingSyscalls(socket_, ::getpid()) : InferenceSyscalls(socket_, ::getpid()));
  Note(filtered_, "seccomp");
  if (!filtered_) descriptors_.clear();
}

std::string Sandbox::LibraryPath(int fd) const {
  return descriptors_.empty() ? "" : absl::StrCat(descriptors_, fd);
}

bool Sandbox::Close() {
  if (descriptors_.empty()) return true;  // nothing can be opened, or nothing can be forbidden
  descriptors_.clear();
  return FilterSyscalls(InferenceSyscalls(socket_, ::getpid()));
}

std::string Sandbox::Describe() const {
  return done_.empty() ? "none" : done_;
}

void Sandbox::Note(bool done, const std::string& what) {
  if (done) absl::StrAppend(&done_, done_.empty() ? "" : " ", what);
}

}  // namespace sconce::torch_runtime
