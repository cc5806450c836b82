#ifndef SCONCE_SERVER_SERVICES_CHECKPOINT_SERVICE_H_
#define SCONCE_SERVER_SERVICES_CHECKPOINT_SERVICE_H_

#include <memory>

namespace grpc {
class Service;
}
namespace sconce::repository {
class Repository;
}
namespace sconce::rpc {
class CallRuntime;
}

namespace sconce::services {

// sconce.v1.CheckpointService over `repository`. Both arguments are borrowed and outlive the service.
std::unique_ptr<grpc::Service> MakeCheckpointService(rpc::CallRuntime& runtime, repository::Repository& repository);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_CHECKPOINT_SERVICE_H_
