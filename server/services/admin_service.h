#ifndef SCONCE_SERVER_SERVICES_ADMIN_SERVICE_H_
#define SCONCE_SERVER_SERVICES_ADMIN_SERVICE_H_

#include <memory>
#include <string>

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

// sconce.v1.AdminService. `server_version` is what GetStats reports; uptime counts from here. The references are
// borrowed and outlive the service.
std::unique_ptr<grpc::Service> MakeAdminService(rpc::CallRuntime& runtime, repository::Repository& repository,
                                                std::string server_version);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_ADMIN_SERVICE_H_
