#include "server/worker_protocol/fork_workers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "server/worker_protocol/channel.h"

// How a worker becomes a child of sconced, which is to know how it ends and to end it:
//
//   1. The template forks a helper, the helper forks the worker, notes its number in memory that they share, and ends.
//   2. The kernel gives the orphan to the nearest ancestor that takes orphans in, which is sconced.
//   3. The template has waited for the helper, so that is done now: it lets the worker go on, and tells sconced.
//
// clone(CLONE_PARENT) would do in one step, but past the C library and all that is prepared for a fork (OpenBLAS ends
// its threads before one).
namespace sconce::worker {
namespace {

constexpr char kTemplateName[] = "torch-template";  // what ps shows

struct Shared {
  pid_t worker;
  int error;  // errno, when there is no worker
};

absl::Status SendAnswer(uint64_t id, MessageType type, const EncodedBody& body) {
  SCONCE_ASSIGN_OR_RETURN(const OutgoingPacket packet, OutgoingPacket::Make(type, id, body));
  return packet.Send(kWorkerSocketFd);
}

pid_t WaitFor(pid_t child) {
  pid_t reaped;
  do {
    reaped = ::waitpid(child, nullptr, 0);
  } while (reaped < 0 && errno == EINTR);
  return reaped;
}

// True in the worker.
bool Fork(Shared& shared) {
  shared = {-1, 0};
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    shared.error = errno;
    return false;
  }
  UniqueFd waits(ends[0]), lets_go(ends[1]);
  const pid_t helper = ::fork();
  if (helper > 0) {
    WaitFor(helper);
    return false;  // which lets go
  }
  if (helper < 0) {
    shared.error = errno;
    return false;
  }
  const pid_t worker = ::fork();
  if (worker != 0) {
    shared.error = worker < 0 ? errno : 0;
    shared.worker = worker;
    ::_exit(0);
  }
  lets_go.Reset();
  char nothing;
  while (::read(waits.get(), &nothing, 1) < 0 && errno == EINTR) {
  }
  return true;
}

}  // namespace

absl::StatusOr<Start> ForkWorkers() {
  char name[16] = {};
  ::prctl(PR_GET_NAME, name);
  ::prctl(PR_SET_NAME, kTemplateName);
  void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoToStatus(errno, "mapping memory for workers");
  auto& shared = *static_cast<Shared*>(memory);
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(Packet files, ReceivePacket(kWorkerSocketFd));
    SCONCE_ASSIGN_OR_RETURN(const Packet packet, ReceivePacket(kWorkerSocketFd));
    if (files.type != MessageType::kFiles || files.files.size() != 1 || packet.type != MessageType::kStart) {
      return MakeError(Reason::INTERNAL_ERROR, "expected Files with a socket, and Start");
    }
    SCONCE_ASSIGN_OR_RETURN(const Start start, DecodeStart(packet.body.bytes()));
    if (Fork(shared)) {
      ::prctl(PR_SET_NAME, name);
      ::munmap(memory, sizeof(Shared));
      if (::dup2(files.files[0].get(), kWorkerSocketFd) < 0) return ErrnoToStatus(errno, "taking the worker's socket");
      return start;
    }
    if (shared.worker > 0) {
      SCONCE_RETURN_IF_ERROR(SendAnswer(packet.id, MessageType::kStarted, Encode(Started{shared.worker})));
    } else {
      const absl::Status why = ErrnoToStatus(shared.error, "forking a worker process");
      Failure failure;
      failure.message = std::string(why.message());
      SCONCE_RETURN_IF_ERROR(SendAnswer(packet.id, MessageType::kFailure, Encode(failure)));
    }
  }
}

}  // namespace sconce::worker
