// What a watcher does is one of:
//
//   idle      it has seen all there is; waits for a revision, or its heartbeat
//   ready     in the queue: it may have something to send
//   stepping  the hub's thread reads the log for it; the call is held meanwhile, so it cannot end
//   writing   a message is on its way: the queue sees it again in OnWriteDone
//
// A revision makes all idle ones ready. Those that are writing need no word of it: they look at the log anyway before
// they are idle again; and the flag that says there is news is taken by the same thread that steps, so none is missed.
#include "server/services/watch_hub.h"

#include <grpcpp/server_context.h>
#include <pthread.h>

#include <algorithm>
#include <deque>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "sconce/v1/checkpoint_service.pb.h"
#include "server/rpc/stream.h"
#include "server/services/convert.h"
#include "storage/repository/repository.h"

namespace sconce::services {
namespace {

using Response = v1::WatchCheckpointsResponse;
using repository::Change;
using repository::ChangeKind;

constexpr rpc::CallSpec kWatch = {"sconce.v1.CheckpointService", "WatchCheckpoints", rpc::CallKind::kServerStream};

// How long the last message to a watcher may take to leave when the server stops. Reads that are under way take much
// less: what takes longer is a client that does not read.
constexpr absl::Duration kLastWrite = absl::Seconds(1);

Response::Event EventOf(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::kCommitted:
      return Response::COMMITTED;
    case ChangeKind::kUpdated:
      return Response::UPDATED;
    case ChangeKind::kDeleted:
      return Response::DELETED;
    case ChangeKind::kQuarantined:
      return Response::QUARANTINED;
    case ChangeKind::kHealed:
      return Response::HEALED;
    case ChangeKind::kAliasSet:
    case ChangeKind::kBestMoved:
      return Response::ALIAS_MOVED;
    case ChangeKind::kAliasDeleted:
      return Response::ALIAS_DELETED;
    case ChangeKind::kRunDeleted:
      break;
  }
  return Response::RUN_DELETED;
}

Response::Cause CauseOf(repository::DeletionCause cause) {
  switch (cause) {
    case repository::DeletionCause::kRequested:
      break;
    case repository::DeletionCause::kRetention:
      return Response::RETENTION;
    case repository::DeletionCause::kExpired:
      return Response::EXPIRED;
  }
  return Response::CAUSE_UNSPECIFIED;
}

void Fill(const Change& change, Response& message) {
  message.set_revision(change.revision);
  message.set_event(EventOf(change.kind));
  message.set_run(wire::FormatRun(change.run.project, change.run.run));
  message.set_alias(change.alias);
  message.set_cause(CauseOf(change.cause));
  *message.mutable_event_time() = TimeToProto(change.time);
  if (change.checkpoint) {
    *message.mutable_checkpoint() = ToProto(*change.checkpoint);
  } else if (change.version > 0) {
    message.mutable_checkpoint()->set_name(
        wire::FormatCheckpoint(change.run.project, change.run.run, absl::StrCat(change.version)));
    message.mutable_checkpoint()->set_version(change.version);
  }
}

absl::Status Draining() {
  return MakeError(Reason::SERVER_DRAINING,
                   "the server is shutting down; watch another one, or this one later, after the last revision");
}

}  // namespace

class WatchHub::Impl {
 public:
  Impl(rpc::CallRuntime& runtime, repository::Repository& repository, const WatchOptions& options)
      : runtime_(runtime), repository_(repository), options_(options), thread_([this] { Work(); }) {
    repository_.SetRevisionListener([this] {
      MutexLock lock(&mu_);
      news_ = true;
      wake_.Signal();
    });
  }
  ~Impl() {
    repository_.SetRevisionListener(nullptr);
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      wake_.Signal();
    }
    thread_.join();
  }

  class Watcher;
  grpc::ServerWriteReactor<Response>* Watch(grpc::CallbackServerContext* context,
                                            const v1::WatchCheckpointsRequest* request);
  void EndWatches() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mu_);
  // The next watcher to step, held; null when there is none just now.
  Watcher* Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Step(Watcher& watcher) ABSL_LOCKS_EXCLUDED(mu_);
  void MakeReady(Watcher& watcher) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WriteLeft(Watcher& watcher) ABSL_LOCKS_EXCLUDED(mu_);
  void Forget(Watcher& watcher) ABSL_LOCKS_EXCLUDED(mu_);

  rpc::CallRuntime& runtime_;
  repository::Repository& repository_;
  const WatchOptions options_;

  Mutex mu_;  // taken before a call's own
  CondVar wake_;
  bool news_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time next_look_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();    // for heartbeats that are due
  absl::Time cancel_at_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();  // those whose last message has not left
  std::set<Watcher*> watchers_ ABSL_GUARDED_BY(mu_);
  std::deque<Watcher*> ready_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;  // last: it uses the rest
};

class WatchHub::Impl::Watcher final : public rpc::StreamCall<grpc::ServerWriteReactor<Response>> {
 public:
  enum class State { kIdle, kReady, kStepping, kWriting };

  Watcher(Impl& hub, grpc::CallbackServerContext* context)
      : StreamCall(hub.runtime_, context, kWatch), hub_(hub), context_(context) {}

  // False when it is over.
  bool Start(const v1::WatchCheckpointsRequest& request) {
    if (!Begin()) return false;
    absl::Status status = scope().TakeMessage(static_cast<int64_t>(request.ByteSizeLong()));
    if (status.ok()) status = Understand(request);
    if (!status.ok()) FinishOnce(status);
    return status.ok();
  }

  // What there is to send now, in `message_`; false when there is nothing. `more`: step again. On the hub's thread.
  absl::StatusOr<bool> Read(repository::Repository& repository, bool heartbeat_due, bool& more) {
    more = false;
    message_.Clear();
    if (!positioned_) {
      if (position_ == 0) {
        if (!filter_.run.empty()) {
          SCONCE_RETURN_IF_ERROR(repository.GetRun({filter_.project, filter_.run}).status());
        }
        SCONCE_ASSIGN_OR_RETURN(position_, repository.GetRevision());
      } else {
        SCONCE_RETURN_IF_ERROR(repository.ReadChanges(position_, filter_, 1).status());
      }
      positioned_ = true;
      message_.set_revision(position_);  // says that the watch has begun, and where
      return true;
    }
    SCONCE_ASSIGN_OR_RETURN(const repository::ChangePage page, repository.ReadChanges(position_, filter_, 1));
    position_ = page.changes.empty() ? page.next_after : page.changes[0].revision;
    if (!page.changes.empty()) {
      Fill(page.changes[0], message_);
      return true;
    }
    more = page.more;
    if (!heartbeat_due) return false;
    message_.set_revision(position_);
    return true;
  }

  // Sends `message_`. Requires: held.
  void Send() {
    last_sent = absl::Now();
    scope().CountSent(static_cast<int64_t>(message_.ByteSizeLong()));
    StartWrite(&message_);
  }

  bool TryHold() { return Hold(); }
  void LetGo() { Release(); }
  void End(const absl::Status& status) { FinishOnce(status); }
  void Cancel() { context_->TryCancel(); }

  void OnWriteDone(bool ok) override {
    if (ok) {
      hub_.WriteLeft(*this);
    } else {
      FinishOnce(MakeError(Reason::CALL_CANCELLED, "the client went away"));
    }
  }
  void OnDone() override {
    hub_.Forget(*this);
    StreamCall::OnDone();
  }

  State state = State::kIdle;                   // guarded by the hub's mutex
  absl::Time last_sent = absl::InfinitePast();  // written before, read while not writing: ordered by that mutex

 private:
  absl::Status Understand(const v1::WatchCheckpointsRequest& request) {
    if (request.after_revision() < 0) {
      return MakeError(Reason::ARGUMENT_INVALID, "after_revision is negative; give a revision, or 0 for from now on",
                       {{"field", "after_revision"}});
    }
    position_ = request.after_revision();
    scope().SetResource(request.parent());
    if (const auto project = wire::ParseProject(request.parent()); project.ok()) {
      filter_.project = *project;
      return absl::OkStatus();
    }
    SCONCE_ASSIGN_OR_RETURN(const repository::RunName run, RunFromName(request.parent()));
    filter_ = {run.project, run.run};
    return absl::OkStatus();
  }

  Impl& hub_;
  grpc::CallbackServerContext* const context_;  // until OnDone
  repository::ChangeFilter filter_;             // constant once started
  int64_t position_ = 0;                        // of the hub's thread, once started: everything up to it was looked at
  bool positioned_ = false;
  Response message_;  // gRPC's while writing
};

grpc::ServerWriteReactor<Response>* WatchHub::Impl::Watch(grpc::CallbackServerContext* context,
                                                          const v1::WatchCheckpointsRequest* request) {
  auto* watcher = new Watcher(*this, context);
  if (!watcher->Start(*request)) return watcher;
  MutexLock lock(&mu_);
  watchers_.insert(watcher);
  if (ended_) {
    watcher->End(Draining());
  } else {
    MakeReady(*watcher);
  }
  return watcher;
}

void WatchHub::Impl::MakeReady(Watcher& watcher) {
  watcher.state = Watcher::State::kReady;
  ready_.push_back(&watcher);
  wake_.Signal();
}

void WatchHub::Impl::Work() {
  ::pthread_setname_np(::pthread_self(), "watch_hub");
  const absl::Duration look_interval = options_.heartbeat_interval / 8;
  while (true) {
    Watcher* watcher = nullptr;
    {
      MutexLock lock(&mu_);
      const auto next = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return std::min(next_look_, cancel_at_); };
      while (!stopping_ && !news_ && ready_.empty() && absl::Now() < next()) {
        wake_.WaitWithTimeout(&mu_, std::max(next() - absl::Now(), absl::Milliseconds(1)));
      }
      if (stopping_) return;
      const absl::Time now = absl::Now();
      if (now >= cancel_at_) {
        cancel_at_ = absl::InfiniteFuture();
        for (Watcher* each : watchers_) {
          if (each->state == Watcher::State::kWriting) each->Cancel();
        }
      }
      const bool look = now >= next_look_;
      if (look) next_look_ = now + look_interval;
      if (news_ || look) {
        for (Watcher* each : watchers_) {
          if (each->state != Watcher::State::kIdle) continue;
          if (news_ || now - each->last_sent >= options_.heartbeat_interval) MakeReady(*each);
        }
        news_ = false;
      }
      watcher = Next();
    }
    if (watcher != nullptr) Step(*watcher);
  }
}

WatchHub::Impl::Watcher* WatchHub::Impl::Next() {
  while (!ready_.empty()) {
    Watcher* watcher = ready_.front();
    ready_.pop_front();
    watcher->state = Watcher::State::kStepping;
    if (watcher->TryHold()) return watcher;  // else it is ending, and OnDone comes
  }
  return nullptr;
}

void WatchHub::Impl::Step(Watcher& watcher) {
  bool more = false;
  const bool heartbeat_due = absl::Now() - watcher.last_sent >= options_.heartbeat_interval;
  const absl::StatusOr<bool> send = watcher.Read(repository_, heartbeat_due, more);
  if (!send.ok()) watcher.End(send.status());
  bool write = false;
  {
    MutexLock lock(&mu_);
    write = send.ok() && *send && !ended_;
    if (write) {
      watcher.state = Watcher::State::kWriting;
    } else if (send.ok() && more) {
      MakeReady(watcher);
    } else if (send.ok()) {
      watcher.state = Watcher::State::kIdle;
    }
  }
  if (write) watcher.Send();
  watcher.LetGo();  // it may be gone now
}

void WatchHub::Impl::WriteLeft(Watcher& watcher) {
  MutexLock lock(&mu_);
  if (ended_) {
    watcher.End(Draining());
  } else {
    MakeReady(watcher);
  }
}

void WatchHub::Impl::Forget(Watcher& watcher) {
  MutexLock lock(&mu_);
  watchers_.erase(&watcher);
  ready_.erase(std::remove(ready_.begin(), ready_.end(), &watcher), ready_.end());
}

void WatchHub::Impl::EndWatches() {
  MutexLock lock(&mu_);
  ended_ = true;
  cancel_at_ = absl::Now() + kLastWrite;
  wake_.Signal();
  for (Watcher* watcher : watchers_) {
    if (watcher->state != Watcher::State::kWriting) watcher->End(Draining());  // else WriteLeft does
  }
}

WatchHub::WatchHub(rpc::CallRuntime& runtime, repository::Repository& repository, const WatchOptions& options)
    : impl_(std::make_unique<Impl>(runtime, repository, options)) {}
WatchHub::~WatchHub() = default;

grpc::ServerWriteReactor<Response>* WatchHub::Watch(grpc::CallbackServerContext* context,
                                                    const v1::WatchCheckpointsRequest* request) {
  return impl_->Watch(context, request);
}
void WatchHub::EndWatches() {
  impl_->EndWatches();
}

}  // namespace sconce::services
