#ifndef SCONCE_SERVER_RPC_STREAM_H_
#define SCONCE_SERVER_RPC_STREAM_H_

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "server/rpc/call.h"

namespace sconce::rpc {

// What every streaming reactor shares, on top of a gRPC one (grpc::ServerReadReactor<Request>,
// grpc::ServerWriteReactor<Response> or grpc::ServerBidiReactor<Request, Response>): the CallScope, one end of the call
// however many reasons there are for it, and the way to the thread pool and back.
//
// How a derived class behaves:
//  * Its constructor asks `Begin()`; false means the call was refused and is over, so it starts nothing.
//  * Reactions (OnReadDone, OnWriteDone, ...) do nothing that blocks. Blocking work goes through RunBlocking, whose
//  task
//    may start the next read or write. Until it returns the call cannot end under it.
//  * It ends with FinishOnce from a reaction or a task, and touches nothing of the call afterwards. The first status
//    counts. The gRPC call ends when no task runs.
//  * A cancelled call ends by itself; scope().cancelled() lets a long task stop early. Reads and writes then come back
//    with ok == false: FinishOnce(scope().CheckCancelled()) is always right there, or simply return.
//  * gRPC calls OnDone when everything is over; it deletes the object. Derived destructors may block for a moment only.
template <typename GrpcReactor>
class StreamCall : public GrpcReactor {
 public:
  StreamCall(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec)
      : scope_(runtime, context, spec) {}

  void OnCancel() override {
    scope_.MarkCancelled();
    FinishOnce(scope_.CheckCancelled());
  }
  void OnDone() override { delete this; }

 protected:
  ~StreamCall() override = default;

  CallScope& scope() { return scope_; }
  CallRuntime& runtime() { return scope_.runtime(); }

  bool Begin() {
    const absl::Status admitted = scope_.Admit();
    if (!admitted.ok()) FinishOnce(admitted);
    return admitted.ok();
  }

  // Runs `task` on the stream pool. False when the call is ending or the pool is full (then it ends as
  // SERVER_OVERLOADED); the task is dropped unrun.
  bool RunBlocking(ThreadPool::Task task) ABSL_LOCKS_EXCLUDED(mu_) {
    return Submit(std::move(task),
                  MakeError(Reason::SERVER_OVERLOADED, "the server has more calls than it can take; try again"));
  }
  // The same, but a full pool leaves the end of the call to the caller: for those that must not end at any moment.
  bool TryRunBlocking(ThreadPool::Task task) ABSL_LOCKS_EXCLUDED(mu_) { return Submit(std::move(task), std::nullopt); }

  // For work on a thread of somebody else: from Hold until Release, which it must call once, the call cannot end and
  // writes may be started, as in a task of RunBlocking. False when the call is ending: then there is nothing to
  // release.
  bool Hold() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(&mu_);
    if (result_.has_value()) return false;
    ++tasks_;
    return true;
  }
  // The object may be gone when it returns.
  void Release() ABSL_LOCKS_EXCLUDED(mu_) { TaskDone(std::nullopt); }

  // The call is over with `status`. Later ones are ignored.
  void FinishOnce(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(&mu_);
      if (result_.has_value()) return;
      result_ = status;
      if (tasks_ > 0) return;
    }
    this->Finish(scope_.Finish(status));
  }

  // True after FinishOnce: what comes now is of no use.
  bool ending() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(&mu_);
    return result_.has_value();
  }

 private:
  bool Submit(ThreadPool::Task task, const std::optional<absl::Status>& when_full) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(&mu_);
      if (result_.has_value()) return false;
      ++tasks_;
    }
    const bool queued = runtime().stream_pool().TrySubmit([this, task = std::move(task)]() mutable {
      {
        ThreadPool::Task running = std::move(task);  // what it holds must be gone before the call can be
        running();
      }
      TaskDone(std::nullopt);
    });
    if (!queued) TaskDone(when_full);
    return queued;
  }

  // The last task to end after FinishOnce ends the call.
  void TaskDone(const std::optional<absl::Status>& failure) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::Status status;
    {
      MutexLock lock(&mu_);
      --tasks_;
      if (failure.has_value() && !result_.has_value()) result_ = *failure;
      if (tasks_ > 0 || !result_.has_value()) return;
      status = *result_;
    }
    this->Finish(scope_.Finish(status));
  }

  CallScope scope_;
  mutable Mutex mu_;
  int tasks_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_STREAM_H_
