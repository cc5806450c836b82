#include "server/rpc/download_reactor.h"

#include <utility>

#include "base/error.h"

namespace sconce::rpc {

DownloadReactor::DownloadReactor(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                                 int64_t request_bytes, std::unique_ptr<DownloadSource> source)
    : StreamCall(runtime, context, spec), source_(std::move(source)) {
  if (!Begin()) return;
  const absl::Status taken = scope().TakeMessage(request_bytes);
  if (taken.ok()) {
    Advance();
  } else {
    FinishOnce(taken);
  }
}

void DownloadReactor::OnWriteDone(bool ok) {
  if (!ok) {
    // The client has gone; OnCancel comes too, but perhaps later.
    FinishOnce(MakeError(Reason::CALL_CANCELLED, "the client went away before the end of the stream"));
    return;
  }
  {
    MutexLock lock(&state_mu_);
    writing_ = false;
  }
  Advance();
}

void DownloadReactor::Advance() {
  bool write = false, produce = false;
  std::optional<absl::Status> end;
  {
    MutexLock lock(&state_mu_);
    if (!writing_ && ready_.has_value()) {
      leaving_.Swap(&*ready_);
      ready_.reset();
      writing_ = write = true;
    }
    if (!producing_ && !ready_.has_value() && !end_.has_value()) producing_ = produce = true;
    if (!writing_ && end_.has_value()) end = end_;
  }
  if (end.has_value()) {
    FinishOnce(*end);
    return;
  }
  // The call may end, and this object die, as soon as the write is started, unless a task holds it: so the task first.
  // Without one this runs in a reaction or a task, which hold it too. When there is no thread for the task, the call is
  // over: nothing may be started after that.
  if (produce && !RunBlocking([this] { Produce(); })) return;
  if (write) {
    scope().CountSent(static_cast<int64_t>(leaving_.Length()));
    StartWrite(&leaving_, grpc::WriteOptions().set_no_compression());
  }
}

void DownloadReactor::Produce() {
  std::optional<grpc::ByteBuffer> message;
  const absl::Status cancelled = scope().CheckCancelled();
  const absl::StatusOr<DownloadSource::Flow> flow =
      cancelled.ok() ? source_->Next(scope(), message) : absl::StatusOr<DownloadSource::Flow>(cancelled);
  {
    MutexLock lock(&state_mu_);
    producing_ = false;
    ready_ = std::move(message);
    if (!flow.ok()) {
      end_ = flow.status();
      ready_.reset();
    } else if (*flow == DownloadSource::Flow::kDone) {
      end_ = absl::OkStatus();
    }
  }
  Advance();
}

}  // namespace sconce::rpc
