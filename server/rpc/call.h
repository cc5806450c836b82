#ifndef SCONCE_SERVER_RPC_CALL_H_
#define SCONCE_SERVER_RPC_CALL_H_

#include <grpcpp/support/status.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "server/rpc/observer.h"
#include "server/rpc/runtime.h"

namespace grpc {
class CallbackServerContext;
}

namespace sconce::rpc {

// One call from its start to its end: who asks, under which id, whether it is admitted, how it ended. A reactor owns
// one and calls Finish exactly once; services use unary.h and stream.h, which do. Thread-safe.
//
// The request id is taken from `x-request-id` metadata (at most 128 printable bytes without spaces) or made; it comes
// back as trailing metadata, in RequestInfo of an error, and in the access log line (event `rpc`) that Finish writes.
class CallScope {
 public:
  // `context` and `runtime` outlive the scope.
  CallScope(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  // OK, or why the call is refused before anything else: SERVER_DRAINING, SERVER_OVERLOADED. To be asked once.
  absl::Status Admit();
  // Counts a message that came in, keeping its share of the byte budget until the next one or the end of the call.
  // MESSAGE_TOO_LARGE, SERVER_OVERLOADED.
  absl::Status TakeMessage(int64_t size_bytes);
  int64_t bytes_in() const { return bytes_in_; }
  // Counts a message that goes out.
  void CountSent(int64_t size_bytes);

  // Ends the call: trailing metadata, log line, observer. What it returns goes to the reactor's Finish. A call whose
  // client has gone is CALL_CANCELLED or CALL_DEADLINE_EXCEEDED unless `status` is OK.
  grpc::Status Finish(const absl::Status& status);
  // The same for who is in a hurry: the log line is written by `log`, when the answer is on its way. It needs nothing
  // of the call.
  struct End {
    grpc::Status status;
    absl::AnyInvocable<void()> log;
  };
  End FinishAndLogLater(const absl::Status& status);

  // The client has gone, or its deadline has passed. Work that takes long asks now and then.
  bool cancelled() const;
  // OK, CALL_CANCELLED or CALL_DEADLINE_EXCEEDED.
  absl::Status CheckCancelled() const;
  // Runs `callback` when the call is cancelled: at once if it already is, never after Finish has returned. Quick, must
  // not call back into the scope. At most one.
  void OnCancel(absl::AnyInvocable<void()> callback);
  // Called by the reactor's OnCancel.
  void MarkCancelled();

  // Names what the call is about, for the log line: "projects/p/runs/r/checkpoints/7".
  void SetResource(absl::string_view resource);

  CallRuntime& runtime() const { return runtime_; }
  const CallSpec& spec() const { return spec_; }
  const std::string& request_id() const { return request_id_; }
  const std::string& peer() const { return peer_; }
  // Who asks. "anonymous" until there is authentication.
  const std::string& principal() const { return principal_; }
  // When the client stops waiting; InfiniteFuture without a deadline.
  absl::Time deadline() const { return deadline_; }

 private:
  CallRuntime& runtime_;
  grpc::CallbackServerContext* const context_;
  const CallSpec spec_;
  const absl::Time start_time_;
  const absl::Time deadline_;
  const std::string request_id_;
  const std::string trace_id_;
  const std::string peer_;
  const std::string principal_;

  std::atomic<bool> cancelled_{false};
  std::atomic<int64_t> bytes_in_{0}, bytes_out_{0}, messages_in_{0}, messages_out_{0};
  bool counted_ = false;   // set by Admit
  bool finished_ = false;  // set by Finish
  mutable Mutex mu_;
  ByteReservation reservation_ ABSL_GUARDED_BY(mu_);
  std::string resource_ ABSL_GUARDED_BY(mu_);
  absl::AnyInvocable<void()> on_cancel_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_CALL_H_
