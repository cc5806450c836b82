#include "server/inference/worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/priority.h"

extern char** environ;

namespace sconce::inference {
namespace {

// What a worker may know of our environment: never tokens or keys.
constexpr const char* kPassedOn[] = {
    "PATH=", "HOME=",         "TMPDIR=",       "LD_LIBRARY_PATH=", "LANG=", "LC_",     "TZ=",    "OMP_",
    "GOMP_", "KMP_",          "MKL_",          "OPENBLAS_",        "CUDA_", "NVIDIA_", "TORCH_", "PYTORCH_",
    "ATEN_", "ASAN_OPTIONS=", "UBSAN_OPTIONS="};

// OpenMP's threads wait for each other in a loop else, which on a machine that has other work (the server, other
// workers) takes the cores from those they wait for: one operation then takes milliseconds. A short loop, some
// microseconds, saves most of waking them for each operation of a small model.
char g_wait_policy[] = "OMP_WAIT_POLICY=PASSIVE";
char g_spin_count[] = "GOMP_SPINCOUNT=1000";

std::vector<char*> WorkerEnvironment() {
  std::vector<char*> passed;
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) {
    passed.push_back(g_wait_policy);
    if (std::getenv("GOMP_SPINCOUNT") == nullptr) passed.push_back(g_spin_count);
  }
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const bool wanted = std::any_of(std::begin(kPassedOn), std::end(kPassedOn),
                                    [&](const char* prefix) { return absl::StartsWith(*variable, prefix); });
    if (wanted) passed.push_back(*variable);
  }
  passed.push_back(nullptr);
  return passed;
}

absl::Status NoWorker() {
  return MakeError(Reason::TORCH_UNAVAILABLE,
                   "this server cannot run models: the program sconce-torch-worker is not beside sconced; install "
                   "LibTorch (on Debian: apt-get install libtorch-dev), build with -DSCONCE_WITH_TORCH=ON and restart");
}

bool Control(int epoll, int operation, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  return ::epoll_ctl(epoll, operation, fd, &event) == 0;
}

}  // namespace

absl::StatusOr<WorkerProcess> WorkerProcess::Start(const std::string& program) {
  if (::access(program.c_str(), X_OK) != 0) return NoWorker();
  SCONCE_ASSIGN_OR_RETURN(auto sockets, worker::SocketPair());

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, sockets.second.get(), worker::kWorkerSocketFd);
  posix_spawn_file_actions_addclosefrom_np(&files, worker::kWorkerSocketFd + 1);

  // What sconced blocks or ignores is its own affair.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> environment = WorkerEnvironment();
  char* arguments[] = {const_cast<char*>(program.c_str()), nullptr};
  pid_t pid = -1;
  int error = 0;
  {
    const LowPriority inherited;
    error = ::posix_spawn(&pid, program.c_str(), &files, &attributes, arguments, environment.data());
  }
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error == ENOENT || error == EACCES || error == ENOEXEC) return NoWorker();
  if (error != 0) return ErrnoToStatus(error, "starting a worker process");
  return WorkerProcess(pid, std::move(sockets.first));
}

absl::Status WorkerProcess::Watch(int interrupt) {
  watched_.Reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!watched_.valid() || !Control(watched_.get(), EPOLL_CTL_ADD, socket_.get(), EPOLLIN) ||
      (interrupt != kNoInterrupt && !Control(watched_.get(), EPOLL_CTL_ADD, interrupt, EPOLLIN))) {
    return ErrnoToStatus(errno, "watching a worker process");
  }
  return absl::OkStatus();
}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      socket_(std::move(other.socket_)),
      watched_(std::move(other.watched_)),
      exit_status_(other.exit_status_) {}

WorkerProcess::~WorkerProcess() {
  if (pid_ > 0) End();
}

absl::StatusOr<Wake> WorkerProcess::Wait(absl::Time deadline) {
  for (;;) {
    int timeout_ms = -1;
    if (deadline != absl::InfiniteFuture()) {
      const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
      timeout_ms = static_cast<int>(
          std::min<int64_t>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 3600 * 1000));
    }
    epoll_event events[2];
    const int ready = ::epoll_wait(watched_.get(), events, 2, timeout_ms);
    if (ready < 0 && errno != EINTR) return ErrnoToStatus(errno, "waiting for a worker process");
    const auto from_worker = [&](const epoll_event& event) { return event.data.fd == socket_.get(); };
    if (ready > 0) return std::any_of(events, events + ready, from_worker) ? Wake::kPacket : Wake::kInterrupted;
    if (ready == 0 && absl::Now() >= deadline) return Wake::kTimeout;
  }
}

void WorkerProcess::LeavePackets(bool to_another) {
  // What tells of its death is always told.
  const uint32_t packets = EPOLLIN;
  SCONCE_CHECK(Control(watched_.get(), EPOLL_CTL_MOD, socket_.get(), to_another ? 0 : packets));
}

void WorkerProcess::WaitAwake(absl::Duration patience) const {
  worker::WaitForPacketAwake(socket_.get(), patience);
}

std::string WorkerProcess::End() {
  // A process that is ending by itself closes its socket first; a moment later its status tells why.
  int status = 0;
  pid_t reaped = 0;
  const absl::Time patience = absl::Now() + absl::Milliseconds(50);
  pollfd gone{socket_.get(), 0, 0};
  if (::poll(&gone, 1, 0) > 0 && (gone.revents & POLLHUP) != 0) {
    while ((reaped = ::waitpid(pid_, &status, WNOHANG)) == 0 && absl::Now() < patience) {
      ::poll(nullptr, 0, 1);
    }
  }
  if (reaped == 0) {
    GiveWay(pid_);  // taking its memory apart costs milliseconds
    ::kill(pid_, SIGKILL);
    do {
      reaped = ::waitpid(pid_, &status, 0);
    } while (reaped < 0 && errno == EINTR);
  }
  pid_ = -1;
  socket_.Reset();
  if (reaped < 0) return "is gone";
  if (WIFSIGNALED(status)) {
    return absl::StrCat("was killed by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  exit_status_ = WEXITSTATUS(status);
  return absl::StrCat("exited with status ", exit_status_);
}

}  // namespace sconce::inference
