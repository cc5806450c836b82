#ifndef SCONCE_SERVER_SERVICES_CHECKPOINT_SERVICE_H_
#define SCONCE_SERVER_SERVICES_CHECKPOINT_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

namespace grpc {
class Service;
}
namespace sconce::repository {
class Repository;
struct RunName;
}  // namespace sconce::repository
namespace sconce::rpc {
class CallRuntime;
}

namespace sconce::services {

class WatchHub;

// Names a deployment that runs a module, or "": such a module is not deleted. Called from any thread.
using ModuleUser = std::function<std::string(const repository::RunName& run, const std::string& module)>;

// sconce.v1.CheckpointService over `repository`. The references are borrowed and outlive the service.
std::unique_ptr<grpc::Service> MakeCheckpointService(rpc::CallRuntime& runtime, repository::Repository& repository,
                                                     WatchHub& watches, ModuleUser module_user = nullptr);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_CHECKPOINT_SERVICE_H_
