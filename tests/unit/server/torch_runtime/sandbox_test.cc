// Each attempt is made in a process of its own, sealed as a worker is, and says by its exit status how it went.
#include "server/torch_runtime/sandbox.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temp_dir.h"

namespace sconce::torch_runtime {
namespace {

// How an attempt ended.
struct Outcome {
  int error = 0;   // errno; 0: it went well
  int signal = 0;  // what ended the process
};

constexpr int kUnfiltered = 250;  // an exit status that is no errno
constexpr int64_t kMemory = int64_t{64} << 20;
constexpr int64_t kFileBytes = int64_t{1} << 20;

// `attempt` returns 0, or the errno it failed with. It is made in a sandbox that was sealed and not closed.
Outcome SealedOnly(const std::function<int(int socket, Sandbox& sandbox)>& attempt) {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    Sandbox sandbox;
    SealOptions options;
    options.socket = ends[1];
    options.memory_bytes = kMemory;
    options.file_bytes = kFileBytes;
    sandbox.Seal(options);
    ::_exit(sandbox.filtered() ? attempt(ends[1], sandbox) : kUnfiltered);
  }
  ::close(ends[0]);
  ::close(ends[1]);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  Outcome outcome;
  if (WIFEXITED(status)) outcome.error = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  EXPECT_NE(outcome.error, kUnfiltered) << "this kernel does not filter system calls";
  return outcome;
}

Outcome Sealed(const std::function<int(int socket)>& attempt) {
  return SealedOnly([&](int socket, Sandbox& sandbox) { return sandbox.Close() ? attempt(socket) : kUnfiltered; });
}

int ErrnoOf(long result) {
  return result < 0 ? errno : 0;
}

::testing::Matcher<Outcome> FailsWithErrno(int error) {
  return ::testing::AllOf(::testing::Field(&Outcome::error, error), ::testing::Field(&Outcome::signal, 0));
}
const auto kIsRefused = FailsWithErrno(EPERM);
const auto kWorks = FailsWithErrno(0);
const auto kIsDeadly = ::testing::Field(&Outcome::signal, SIGSYS);

TEST(SandboxTest, NoFileCanBeOpenedMadeChangedOrLookedAt) {
  TempDir folder;
  const std::string path = folder / "file";
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::open("/etc/passwd", O_RDONLY)); }), kIsRefused);
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::open("/proc/self/status", O_RDONLY)); }), kIsRefused);
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::open("/", O_RDONLY | O_DIRECTORY)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::open(path.c_str(), O_WRONLY | O_CREAT, 0600)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), nullptr, 0)); }),
              kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::mkdir(path.c_str(), 0700)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::unlink(path.c_str())); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::rename(path.c_str(), "/tmp/x")); }), kIsRefused);
  EXPECT_THAT(Sealed([](int) {
                struct stat info {};
                return ErrnoOf(::stat("/etc/passwd", &info));
              }),
              FailsWithErrno(ENOENT));
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

// What was opened before may be read, and by no trick written.
TEST(SandboxTest, AFileThatIsOpenCanBeReadButNotLockedOrReopened) {
  TempDir folder;
  const std::string path = folder / "blob";
  const int writer = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(::write(writer, "bytes", 5), 5);
  ::close(writer);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_THAT(Sealed([&](int) {
                char text[8];
                return ::pread(fd, text, sizeof(text), 0) == 5 ? 0 : EIO;
              }),
              kWorks);
  EXPECT_THAT(Sealed([&](int) {
                void* mapped = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
                if (mapped == MAP_FAILED) return errno;
                static_cast<char*>(mapped)[0] = 'X';  // of our copy
                return 0;
              }),
              kWorks);
  EXPECT_THAT(Sealed([&](int) {
                return ErrnoOf(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
              }),
              FailsWithErrno(EACCES));
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::write(fd, "x", 1)); }), FailsWithErrno(EBADF));
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::ftruncate(fd, 0)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::fchmod(fd, 0777)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) {
                struct flock lock {};
                lock.l_type = F_RDLCK;
                return ErrnoOf(::fcntl(fd, F_SETLK, &lock));
              }),
              kIsRefused);
  EXPECT_THAT(Sealed([&](int) {
                const std::string again = "/proc/self/fd/" + std::to_string(fd);
                return ErrnoOf(::open(again.c_str(), O_RDWR));
              }),
              kIsRefused);
  ::close(fd);
}

// The library of the test's own, in a file in memory.
int LibraryInMemory() {
  std::ifstream file(std::string(::getenv("SCONCE_BIN_DIR")) + "/../tests/libsandbox_test_library.so",
                     std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const int fd = ::memfd_create("library", MFD_CLOEXEC);
  EXPECT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  EXPECT_GT(bytes.size(), 0u);
  return fd;
}

TEST(SandboxTest, ALibraryIsLoadedFromMemoryUntilItIsClosed) {
  const int fd = LibraryInMemory();
  const auto load = [&](Sandbox& sandbox) { return ::dlopen(sandbox.LibraryPath(fd).c_str(), RTLD_NOW | RTLD_LOCAL); };
  EXPECT_THAT(SealedOnly([&](int, Sandbox& sandbox) {
                void* const library = load(sandbox);
                if (library == nullptr) return ENOEXEC;
                if (!sandbox.Close()) return EACCES;
                const auto answer = reinterpret_cast<int (*)()>(::dlsym(library, "SandboxTestAnswer"));
                return answer != nullptr && answer() == 42 ? 0 : EIO;
              }),
              kWorks);
  EXPECT_THAT(SealedOnly([&](int, Sandbox& sandbox) {
                const std::string path = sandbox.LibraryPath(fd);
                if (!sandbox.Close() || !sandbox.LibraryPath(fd).empty()) return EACCES;
                if (::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr) return 0;
                return ErrnoOf(::open(path.c_str(), O_RDONLY));
              }),
              kIsRefused);
  ::close(fd);
}

// A library's constructors have no more than this.
TEST(SandboxTest, UntilItIsClosedNoFileCanBeOpenedEither) {
  TempDir folder;
  const std::string path = folder / "file";
  const int blob = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(blob, 0);
  const auto kIsHidden = ::testing::AnyOf(FailsWithErrno(EACCES), FailsWithErrno(ENOENT));
  const auto open = [](std::string name, int flags) {
    return [name, flags](int, Sandbox&) { return ErrnoOf(::open(name.c_str(), flags, 0600)); };
  };
  for (const char* name : {"/etc/passwd", "/proc/self/status", "/proc/1/environ", "/../etc/passwd", "../etc/passwd"}) {
    EXPECT_THAT(SealedOnly(open(name, O_RDONLY)), kIsHidden) << name;
  }
  EXPECT_THAT(SealedOnly(open(path, O_RDONLY)), kIsHidden);
  EXPECT_THAT(SealedOnly(open(folder / "new", O_WRONLY | O_CREAT)), kIsRefused);
  EXPECT_THAT(SealedOnly(open("/", O_RDONLY | O_DIRECTORY)), kIsRefused);
  EXPECT_THAT(
      SealedOnly([&](int, Sandbox& sandbox) { return ErrnoOf(::open(sandbox.LibraryPath(blob).c_str(), O_WRONLY)); }),
      kIsRefused);
  EXPECT_THAT(SealedOnly([](int, Sandbox&) { return ErrnoOf(::socket(AF_INET, SOCK_STREAM, 0)); }), kIsRefused);
  EXPECT_THAT(SealedOnly([](int, Sandbox&) { return ErrnoOf(::execl("/bin/true", "true", nullptr)); }), kIsDeadly);
  EXPECT_THAT(SealedOnly([](int, Sandbox&) { return ErrnoOf(::chroot("/")); }), kIsDeadly);
  EXPECT_NE(::access((folder / "new").c_str(), F_OK), 0);
  ::close(blob);
}

TEST(SandboxTest, NothingCanBeConnectedTo) {
  for (const int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK}) {
    EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::socket(family, SOCK_STREAM, 0)); }), kIsRefused) << family;
  }
  EXPECT_THAT(Sealed([](int socket) {
                sockaddr_in address{};
                address.sin_family = AF_INET;
                address.sin_port = htons(80);
                address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                return ErrnoOf(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
              }),
              kIsRefused);
  int other[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, other), 0);
  EXPECT_THAT(Sealed([&](int) {
                msghdr nothing{};
                return ErrnoOf(::sendmsg(other[0], &nothing, 0));
              }),
              kIsRefused);
  ::close(other[0]);
  ::close(other[1]);
}

TEST(SandboxTest, NoProcessCanBeStartedWatchedOrSignalled) {
  const pid_t parent = ::getpid();
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0)); }),
              kIsRefused);
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::syscall(SYS_clone3, nullptr, 0)); }), FailsWithErrno(ENOSYS));
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::execl("/bin/true", "true", nullptr)); }), kIsDeadly);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::ptrace(PTRACE_ATTACH, parent, nullptr, nullptr)); }), kIsDeadly);
  EXPECT_THAT(Sealed([&](int) {
                char byte = 0;
                iovec here{&byte, 1};
                iovec there{&byte, 1};
                return ErrnoOf(::process_vm_readv(parent, &here, 1, &there, 1, 0));
              }),
              kIsDeadly);
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::unshare(CLONE_NEWUSER)); }), kIsDeadly);
#ifdef SYS_fork
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::syscall(SYS_fork)); }), kIsDeadly);
#endif
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::kill(parent, 0)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::syscall(SYS_tgkill, parent, parent, 0)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::syscall(SYS_tkill, parent, 0)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) { return ErrnoOf(::setpriority(PRIO_PROCESS, static_cast<id_t>(parent), 19)); }),
              kIsRefused);
  EXPECT_THAT(Sealed([](int) { return ErrnoOf(::setpriority(PRIO_USER, 0, 19)); }), kIsRefused);
  EXPECT_THAT(Sealed([&](int) {
                rlimit limit{};
                return ErrnoOf(::prlimit(parent, RLIMIT_CPU, &limit, nullptr));
              }),
              kIsRefused);
}

TEST(SandboxTest, ThreadsMemoryAndAnswersWorkOn) {
  EXPECT_THAT(Sealed([](int) {
                std::vector<int64_t> sums(4);
                std::vector<std::thread> threads;
                for (int64_t& sum : sums) {
                  threads.emplace_back([&sum] {
                    std::vector<int64_t> numbers(100'000);
                    std::iota(numbers.begin(), numbers.end(), 0);
                    sum = std::accumulate(numbers.begin(), numbers.end(), int64_t{0});
                  });
                }
                for (std::thread& thread : threads) thread.join();
                const bool all =
                    std::all_of(sums.begin(), sums.end(), [](int64_t sum) { return sum == 4'999'950'000; });
                return all ? 0 : EIO;
              }),
              kWorks);
  EXPECT_THAT(Sealed([](int socket) {
                const int memfd = ::memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                if (memfd < 0 || ::write(memfd, "x", 1) != 1) return errno;
                if (::fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE) != 0) return errno;
                iovec part{const_cast<char*>("hello"), 5};
                msghdr message{};
                message.msg_iov = &part;
                message.msg_iovlen = 1;
                return ErrnoOf(::sendmsg(socket, &message, 0));
              }),
              kWorks);
}

// Threads that a module's work runs in are behind the same walls.
TEST(SandboxTest, AThreadCanOpenNoMore) {
  EXPECT_THAT(Sealed([](int) {
                int error = 0;
                std::thread([&] { error = ErrnoOf(::open("/etc/passwd", O_RDONLY)); }).join();
                return error;
              }),
              kIsRefused);
}

TEST(SandboxTest, MoreMemoryThanAllowedIsRefusedNotTaken) {
  const auto map = [](int64_t bytes) {
    void* mapped =
        ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ErrnoOf(mapped == MAP_FAILED ? -1 : 0);
  };
  EXPECT_THAT(Sealed([&](int) { return map(kMemory / 2); }), kWorks);
  EXPECT_THAT(Sealed([&](int) { return map(kMemory * 2); }), FailsWithErrno(ENOMEM));
  EXPECT_THAT(Sealed([](int) {
                try {
                  const std::unique_ptr<char[]> much(new char[kMemory * 2]);
                  return much[0] == 0 ? 0 : 1;
                } catch (const std::bad_alloc&) {
                  return ENOMEM;
                }
              }),
              FailsWithErrno(ENOMEM));
  EXPECT_THAT(Sealed([](int) {
                rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
                return ErrnoOf(::setrlimit(RLIMIT_DATA, &unlimited));
              }),
              kIsRefused);
}

TEST(SandboxTest, WhatWasDroppedIsSaid) {
  const pid_t child = ::fork();
  if (child == 0) {
    Sandbox sandbox;
    SealOptions options;
    options.socket = 0;
    sandbox.Seal(options);
    const std::string all = " " + sandbox.Describe() + " ";
    ::_exit(all.find(" seccomp ") != std::string::npos && all.find(" caps ") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace sconce::torch_runtime
