#ifndef SCONCE_SERVER_SERVICES_MODEL_SERVICE_H_
#define SCONCE_SERVER_SERVICES_MODEL_SERVICE_H_

#include <memory>

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

class ModelWatches;

// sconce.v1.ModelService over `models`. The arguments are borrowed and outlive the service.
std::unique_ptr<grpc::Service> MakeModelService(rpc::CallRuntime& runtime, inference::ModelManager& models,
                                                ModelWatches& watches);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_MODEL_SERVICE_H_
