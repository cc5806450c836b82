#ifndef SCONCE_SERVER_RPC_UNARY_H_
#define SCONCE_SERVER_RPC_UNARY_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/error.h"
#include "server/rpc/call.h"

// The one way to answer a unary call:
//
//   grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context, const GetRunRequest* request,
//                                    Run* response) override {
//     return rpc::HandleUnary(runtime_, context, kGetRun, request, response,
//                             [this](rpc::CallScope& scope, const GetRunRequest& req, Run& resp) { ... });
//   }
namespace sconce::rpc {

// The reactor behind HandleUnary. gRPC deletes it through OnDone.
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  UnaryCall(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec)
      : scope_(runtime, context, spec) {}
  CallScope& scope() { return scope_; }
  // Ends the call with `status`; once, and nothing may touch the call, its request or its response afterwards.
  // `response_bytes` is counted when the status is OK.
  void Complete(const absl::Status& status, int64_t response_bytes) {
    if (status.ok()) scope_.CountSent(response_bytes);
    CallScope::End end = scope_.FinishAndLogLater(status);
    Finish(std::move(end.status));  // from here on the call may be gone
    end.log();
  }
  void OnCancel() override { scope_.MarkCancelled(); }
  void OnDone() override { delete this; }

 private:
  ~UnaryCall() override = default;

  CallScope scope_;
};

// The call behind HandleUnaryAsync. It answers through the context's own reactor, which gRPC is done with where it is
// finished; to be done with another one, it wakes a thread. When it is complete before the handler has returned, the
// answer leaves after that, and the log line comes first.
class AsyncCall {
 public:
  AsyncCall(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec)
      : reactor_(context->DefaultReactor()), scope_(runtime, context, spec) {}
  CallScope& scope() { return scope_; }
  grpc::ServerUnaryReactor* reactor() const { return reactor_; }
  // As UnaryCall::Complete; the call is gone then.
  void Complete(const absl::Status& status, int64_t response_bytes) {
    if (status.ok()) scope_.CountSent(response_bytes);
    CallScope::End end = scope_.FinishAndLogLater(status);
    reactor_->Finish(std::move(end.status));
    end.log();
    delete this;
  }

 private:
  ~AsyncCall() = default;

  grpc::ServerUnaryReactor* const reactor_;
  CallScope scope_;
};

// Answers the call with what `handler(CallScope&, const Request&, Response&) -> absl::Status` makes, run on the unary
// pool, where it may block. A call that is refused, too large, or cancelled before its turn never gets there; a full
// pool is SERVER_OVERLOADED. On an error the response is not sent.
template <typename Request, typename Response, typename Handler>
grpc::ServerUnaryReactor* HandleUnary(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                                      const Request* request, Response* response, Handler handler) {
  auto* call = new UnaryCall(runtime, context, spec);
  absl::Status admitted = call->scope().Admit();
  if (admitted.ok()) admitted = call->scope().TakeMessage(static_cast<int64_t>(request->ByteSizeLong()));
  if (!admitted.ok()) {
    call->Complete(admitted, 0);
    return call;
  }
  const bool queued = runtime.unary_pool().TrySubmit([call, request, response, handler = std::move(handler)]() mutable {
    absl::Status status = call->scope().CheckCancelled();
    if (status.ok()) status = handler(call->scope(), *request, *response);
    call->Complete(status, status.ok() ? static_cast<int64_t>(response->ByteSizeLong()) : 0);
  });
  if (!queued)
    call->Complete(MakeError(Reason::SERVER_OVERLOADED, "the server has more calls than it can take; try again"), 0);
  return call;
}

// The same for work that goes on elsewhere: `start(CallScope&, const Request&, Response&, done)` runs at once, in a
// gRPC reaction, so it must not block; it hands the work over and returns. Whoever has filled the response calls
// `done(absl::Status)` once, from any thread; request, response and scope live until then. CallScope::cancelled
// tells whether anybody still waits, OnCancel never comes; `done` must be called all the same.
template <typename Request, typename Response, typename Start>
grpc::ServerUnaryReactor* HandleUnaryAsync(CallRuntime& runtime, grpc::CallbackServerContext* context,
                                           const CallSpec& spec, const Request* request, Response* response,
                                           Start start) {
  auto* call = new AsyncCall(runtime, context, spec);
  grpc::ServerUnaryReactor* const reactor = call->reactor();
  absl::Status admitted = call->scope().Admit();
  if (admitted.ok()) admitted = call->scope().TakeMessage(static_cast<int64_t>(request->ByteSizeLong()));
  if (!admitted.ok()) {
    call->Complete(admitted, 0);
    return reactor;
  }
  absl::AnyInvocable<void(absl::Status)> done = [call, response](const absl::Status& status) {
    call->Complete(status, status.ok() ? static_cast<int64_t>(response->ByteSizeLong()) : 0);
  };
  start(call->scope(), *request, *response, std::move(done));
  return reactor;
}

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_UNARY_H_
