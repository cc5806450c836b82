#ifndef SCONCE_SERVER_SERVICES_INFERENCE_SERVICE_H_
#define SCONCE_SERVER_SERVICES_INFERENCE_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

namespace grpc {
class Service;
}
namespace sconce::inference {
class ModelManager;
}
namespace sconce::rpc {
class CallRuntime;
}

namespace sconce::services {

struct InferenceServiceOptions {
  std::string server_version;          // as ServerMetadata shows it
  std::function<bool()> server_ready;  // false while starting; empty: always true. Draining is known without it
};

// inference.GRPCInferenceService (the Open Inference Protocol v2) over `models`. The references are borrowed and
// outlive the service. The gRPC server must accept messages of kMaxInferenceMessageBytes (proto/wire/limits.h).
std::unique_ptr<grpc::Service> MakeInferenceService(rpc::CallRuntime& runtime, inference::ModelManager& models,
                                                    const InferenceServiceOptions& options);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_INFERENCE_SERVICE_H_
