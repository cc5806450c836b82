#ifndef SCONCE_SERVER_RPC_UNIMPLEMENTED_H_
#define SCONCE_SERVER_RPC_UNIMPLEMENTED_H_

#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error.h"
#include "server/rpc/stream.h"
#include "server/rpc/unary.h"

// Answers for calls that a later release implements: NOT_IMPLEMENTED with a sentence, counted and logged like any
// other. `advice` says what to use instead ("use PushCheckpoint"); it may be empty.
namespace sconce::rpc {

inline absl::Status NotImplementedError(const CallSpec& spec, absl::string_view advice) {
  return MakeError(Reason::NOT_IMPLEMENTED,
                   absl::StrCat(spec.method, " is not implemented in this release", advice.empty() ? "" : "; ", advice),
                   {{"service", std::string(spec.service)}, {"method", std::string(spec.method)}});
}

inline grpc::ServerUnaryReactor* NotImplementedUnary(CallRuntime& runtime, grpc::CallbackServerContext* context,
                                                     const CallSpec& spec, absl::string_view advice = {}) {
  auto* call = new UnaryCall(runtime, context, spec);
  const absl::Status admitted = call->scope().Admit();
  call->Complete(admitted.ok() ? NotImplementedError(spec, advice) : admitted, 0);
  return call;
}

// A stream that ends as soon as it begins, whatever the client sends. GrpcReactor: grpc::ServerReadReactor<Request>,
// grpc::ServerWriteReactor<Response> or grpc::ServerBidiReactor<Request, Response>, as the overridden method returns:
//   return new rpc::NotImplementedStream<grpc::ServerBidiReactor<A, B>>(runtime_, context, kSpec, "use C");
template <typename GrpcReactor>
class NotImplementedStream final : public StreamCall<GrpcReactor> {
 public:
  NotImplementedStream(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                       absl::string_view advice = {})
      : StreamCall<GrpcReactor>(runtime, context, spec) {
    if (this->Begin()) this->FinishOnce(NotImplementedError(spec, advice));
  }
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_UNIMPLEMENTED_H_
