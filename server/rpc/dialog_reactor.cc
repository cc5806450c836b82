// Answers come from any thread, and gRPC forbids writes after Finish: so whoever takes an answer to send it sets
// writing_ under the lock, and starts the write outside. While writing_ is set the call is not finished (OnWriteDone
// comes back to that), so it is there when the write starts. No answer is taken into the queue once end_ is set. Only
// End and OnWriteDone finish the call.
#include "server/rpc/dialog_reactor.h"

#include <utility>

#include "base/error.h"

namespace sconce::rpc {

DialogReactor::DialogReactor(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                             const std::function<std::unique_ptr<Dialog>(Dialog::Say say)>& make)
    : StreamCall(runtime, context, spec) {
  if (!Begin()) return;
  dialog_ = make([this](grpc::ByteBuffer message) { Say(std::move(message)); });
  StartRead(&arriving_);
}

void DialogReactor::OnReadDone(bool ok) {
  const absl::Status taken =
      ok ? scope().TakeMessage(static_cast<int64_t>(arriving_.Length())) : scope().CheckCancelled();
  {
    MutexLock lock(&state_mu_);
    if (!taken.ok()) {
      failure_ = taken;
    } else if (ok) {
      waiting_.Swap(&arriving_);
      waiting_full_ = true;
    } else {
      all_read_ = true;
    }
  }
  arriving_.Clear();
  Advance();
}

void DialogReactor::OnWriteDone(bool ok) {
  std::optional<absl::Status> end;
  bool send = false;
  {
    MutexLock lock(&state_mu_);
    writing_ = false;
    if (!ok) {
      answers_.clear();
      // The client has gone; OnCancel comes too, but perhaps later.
      failure_.Update(MakeError(Reason::CALL_CANCELLED, "the client went away before the end of the stream"));
    }
    send = TakeAnswer();
    if (!send) end = end_;
  }
  if (send) {
    Send();
  } else if (end.has_value()) {
    FinishOnce(*end);
    return;
  }
  Advance();
}

void DialogReactor::OnCancel() {
  // The dialog may have something to clear up, so a step ends the call, not this reaction.
  scope().MarkCancelled();
  {
    MutexLock lock(&state_mu_);
    failure_ = scope().CheckCancelled();
  }
  Advance();
}

void DialogReactor::Say(grpc::ByteBuffer message) {
  {
    MutexLock lock(&state_mu_);
    if (end_.has_value()) return;
    answers_.push_back(std::move(message));
    if (!TakeAnswer()) return;
  }
  Send();
}

bool DialogReactor::TakeAnswer() {
  if (writing_ || answers_.empty()) return false;
  leaving_.Swap(&answers_.front());
  answers_.pop_front();
  writing_ = true;
  return true;
}

void DialogReactor::Send() {
  scope().CountSent(static_cast<int64_t>(leaving_.Length()));
  StartWrite(&leaving_, grpc::WriteOptions().set_no_compression());
}

void DialogReactor::Advance() {
  {
    MutexLock lock(&state_mu_);
    const bool message = waiting_full_ && answers_.empty();
    if (stepping_ || (!message && !(all_read_ && !waiting_full_) && failure_.ok())) return;
    stepping_ = true;
  }
  if (TryRunBlocking([this] { Step(); })) return;
  // Nothing runs and nothing will: the dialog is let go here, though that may block for a moment.
  dialog_.reset();
  End(MakeError(Reason::SERVER_OVERLOADED, "the server has more calls than it can take; try again"));
}

void DialogReactor::Step() {
  grpc::ByteBuffer buffer;
  bool is_message = false;
  absl::Status status;
  {
    MutexLock lock(&state_mu_);
    status = failure_;
    if (status.ok() && waiting_full_) {
      buffer.Swap(&waiting_);
      waiting_full_ = false;
      is_message = true;
    }
  }
  if (status.ok() && is_message) {
    StartRead(&arriving_);
    status = dialog_->Take(scope(), buffer);
  } else if (status.ok()) {
    status = dialog_->End(scope());
  }
  if (!is_message || !status.ok()) {
    dialog_.reset();
    End(status);
    return;
  }
  buffer.Clear();
  {
    MutexLock lock(&state_mu_);
    stepping_ = false;
  }
  Advance();
}

void DialogReactor::End(const absl::Status& status) {
  {
    MutexLock lock(&state_mu_);
    end_ = status;
    if (!status.ok()) answers_.clear();
    if (writing_) return;  // OnWriteDone goes on
  }
  FinishOnce(status);
}

}  // namespace sconce::rpc
