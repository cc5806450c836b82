#ifndef SCONCE_SERVER_SERVICES_UNKNOWN_METHOD_SERVICE_H_
#define SCONCE_SERVER_SERVICES_UNKNOWN_METHOD_SERVICE_H_

#include <memory>

#include "server/rpc/runtime.h"

namespace grpc {
class CallbackGenericService;
}

namespace sconce::services {

// Answers every method no other service has with NOT_IMPLEMENTED naming it, so that those calls too have a reason, a
// request id, a log line and a place in the metrics (as "_OTHER": their names are the client's). `runtime` is borrowed.
std::unique_ptr<grpc::CallbackGenericService> MakeUnknownMethodService(rpc::CallRuntime& runtime);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_UNKNOWN_METHOD_SERVICE_H_
