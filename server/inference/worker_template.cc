#include "server/inference/worker_template.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/priority.h"
#include "server/worker_protocol/channel.h"

namespace sconce::inference {
namespace {

using worker::MessageType;

constexpr absl::Duration kPatience = absl::Seconds(5);

absl::Status OutOfTurn() {
  return MakeError(Reason::INTERNAL_ERROR, "the template of workers sent a packet out of turn, so it was ended");
}

// A worker that nobody waits for has nobody to read its socket, so it ends; here it is waited for.
absl::Status Reap(const worker::Packet& packet) {
  if (packet.type == MessageType::kFailure) return absl::OkStatus();
  if (packet.type != MessageType::kStarted) return OutOfTurn();
  SCONCE_ASSIGN_OR_RETURN(const worker::Started started, worker::DecodeStarted(packet.body.bytes()));
  WorkerProcess(static_cast<pid_t>(started.pid), UniqueFd()).End();
  return absl::OkStatus();
}

}  // namespace

WorkerTemplate::~WorkerTemplate() {
  MutexLock lock(&mu_);
  if (!process_.has_value()) return;
  const absl::Time patience = absl::Now() + kPatience;
  bool usable = unanswered_ > 0 && process_->Watch(kNoInterrupt).ok();
  while (usable && unanswered_ > 0) {  // a worker that is being copied just now is not to be left behind
    const auto answer = Await(patience);
    usable = answer.ok() && Reap(**answer).ok();
    --unanswered_;
  }
  (void)End(absl::OkStatus());
}

absl::StatusOr<std::optional<WorkerProcess>> WorkerTemplate::Start(int interrupt, int threads, absl::Time deadline) {
  MutexLock lock(&mu_);
  if (process_.has_value() && ready_) {
    if (const absl::Status usable = TakeLateAnswers(); !usable.ok()) (void)End(usable);
  }
  if (!process_.has_value()) SCONCE_RETURN_IF_ERROR(StartProcess());
  absl::StatusOr<std::optional<WorkerProcess>> worker = Copy(interrupt, threads, deadline);
  if (worker.ok()) return worker;
  return End(worker.status());
}

absl::Status WorkerTemplate::StartProcess() {
  // So that workers, whose parent ends at once, become children of ours (fork_workers.cc).
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) return ErrnoToStatus(errno, "taking in worker processes");
  SCONCE_ASSIGN_OR_RETURN(WorkerProcess started, WorkerProcess::Start(program_));
  process_.emplace(std::move(started));
  ready_ = false;
  hurry_at_ = absl::Now() + gives_way_for_;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<WorkerProcess>> WorkerTemplate::Copy(int interrupt, int threads, absl::Time deadline) {
  SCONCE_RETURN_IF_ERROR(process_->Watch(interrupt));
  if (!ready_) {
    SCONCE_ASSIGN_OR_RETURN(const auto hello, Await(deadline));
    if (!hello.has_value()) return std::nullopt;
    if (hello->type != MessageType::kHello) return OutOfTurn();
    SCONCE_RETURN_IF_ERROR(worker::DecodeHello(hello->body.bytes()).status());
    ready_ = true;
    hurry_at_ = absl::InfiniteFuture();
  }
  SCONCE_ASSIGN_OR_RETURN(auto sockets, worker::SocketPair());
  const int theirs[] = {sockets.second.get()};
  SCONCE_RETURN_IF_ERROR(process_->Send(worker::OutgoingPacket::Files(theirs)));
  const worker::Start start{static_cast<uint32_t>(threads)};
  SCONCE_ASSIGN_OR_RETURN(const worker::OutgoingPacket packet,
                          worker::OutgoingPacket::Make(MessageType::kStart, ++last_id_, worker::Encode(start)));
  SCONCE_RETURN_IF_ERROR(process_->Send(packet));
  ++unanswered_;
  sockets.second.Reset();
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(const auto answer, Await(deadline));
    if (!answer.has_value()) return std::nullopt;
    --unanswered_;
    if (answer->id != last_id_) {
      SCONCE_RETURN_IF_ERROR(Reap(*answer));
      continue;
    }
    if (answer->type == MessageType::kFailure) {
      SCONCE_ASSIGN_OR_RETURN(const worker::Failure failure, worker::DecodeFailure(answer->body.bytes()));
      return MakeError(Reason::IO_ERROR, failure.message);
    }
    if (answer->type != MessageType::kStarted) return OutOfTurn();
    SCONCE_ASSIGN_OR_RETURN(const worker::Started started, worker::DecodeStarted(answer->body.bytes()));
    WorkerProcess worker(static_cast<pid_t>(started.pid), std::move(sockets.first));
    SCONCE_RETURN_IF_ERROR(worker.Watch(interrupt));
    return std::optional<WorkerProcess>(std::move(worker));
  }
}

absl::StatusOr<std::optional<worker::Packet>> WorkerTemplate::Await(absl::Time deadline) {
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(const Wake wake, process_->Wait(std::min(deadline, hurry_at_)));
    if (absl::Now() >= hurry_at_) {
      hurry_at_ = absl::InfiniteFuture();
      GiveWayLess(process_->pid());
    }
    if (wake == Wake::kInterrupted) return std::nullopt;
    if (wake == Wake::kTimeout) {
      if (absl::Now() < deadline) continue;
      return MakeError(Reason::WORKER_DEADLINE_EXCEEDED, "no worker process was started in time; retry");
    }
    SCONCE_ASSIGN_OR_RETURN(std::optional<worker::Packet> packet, process_->Receive());
    if (packet.has_value()) return packet;
  }
}

absl::Status WorkerTemplate::TakeLateAnswers() {
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<worker::Packet> packet, process_->Receive());
    if (!packet.has_value()) return absl::OkStatus();
    --unanswered_;
    SCONCE_RETURN_IF_ERROR(Reap(*packet));
  }
}

absl::Status WorkerTemplate::End(const absl::Status& why) {
  const std::string how = process_->End();
  const bool no_libraries = process_->exit_status() == 127;  // the dynamic loader's
  process_.reset();
  unanswered_ = 0;
  if (!HasReason(why, Reason::WORKER_DIED)) return why;
  if (no_libraries) {
    return MakeError(Reason::TORCH_UNAVAILABLE,
                     "this server cannot run models: sconce-torch-worker does not start, since a library that it "
                     "needs is missing; install LibTorch (on Debian: apt-get install libtorch-dev) and restart");
  }
  return MakeError(Reason::WORKER_DIED,
                   absl::StrCat("the process that workers are copied from ", how, "; retry, it is restarted"));
}

}  // namespace sconce::inference
