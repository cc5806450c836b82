#ifndef SCONCE_SERVER_SERVICES_REFLECTION_SERVICE_H_
#define SCONCE_SERVER_SERVICES_REFLECTION_SERVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "server/rpc/runtime.h"

namespace grpc {
class Service;
}

namespace sconce::services {

// grpc.reflection.v1.ServerReflection and its older twin v1alpha, so that every grpcurl and buf curl can list, describe
// and call what is here. They answer from the descriptors linked into the program, and list `services`. Our own,
// because gRPC's is a synchronous service and knows v1alpha only. `runtime` is borrowed and outlives them.
std::unique_ptr<grpc::Service> MakeReflectionService(rpc::CallRuntime& runtime, std::vector<std::string> services);
std::unique_ptr<grpc::Service> MakeReflectionAlphaService(rpc::CallRuntime& runtime, std::vector<std::string> services);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_REFLECTION_SERVICE_H_
