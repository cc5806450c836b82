#include "server/services/unknown_method_service.h"

#include <grpcpp/generic/async_generic_service.h>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/strings.h"
#include "server/rpc/stream.h"

namespace sconce::services {
namespace {

constexpr rpc::CallSpec kUnknown = {"_OTHER", "_OTHER", rpc::CallKind::kBidiStream, wire::kMaxMessageBytes,
                                    rpc::Admission::kAlways};

class UnknownMethod final : public rpc::StreamCall<grpc::ServerGenericBidiReactor> {
 public:
  UnknownMethod(rpc::CallRuntime& runtime, grpc::GenericCallbackServerContext* context)
      : StreamCall(runtime, context, kUnknown) {
    scope().SetResource(context->method());
    FinishOnce(MakeError(Reason::NOT_IMPLEMENTED,
                         absl::StrCat("this server has no method ", Quoted(context->method()),
                                      "; reflection lists those it has (grpcurl ADDRESS list)"),
                         {{"method", context->method()}}));
  }
};

class UnknownMethodService final : public grpc::CallbackGenericService {
 public:
  explicit UnknownMethodService(rpc::CallRuntime& runtime) : runtime_(runtime) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return new UnknownMethod(runtime_, context);
  }

 private:
  rpc::CallRuntime& runtime_;
};

}  // namespace

std::unique_ptr<grpc::CallbackGenericService> MakeUnknownMethodService(rpc::CallRuntime& runtime) {
  return std::make_unique<UnknownMethodService>(runtime);
}

}  // namespace sconce::services
