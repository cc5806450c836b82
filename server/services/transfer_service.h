#ifndef SCONCE_SERVER_SERVICES_TRANSFER_SERVICE_H_
#define SCONCE_SERVER_SERVICES_TRANSFER_SERVICE_H_

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

// sconce.v1.TransferService: moves the bytes of checkpoints and modules. The bulk streams run on raw messages, see
// rpc/upload_reactor.h and rpc/download_reactor.h. Both arguments are borrowed and outlive the service.
std::unique_ptr<grpc::Service> MakeTransferService(rpc::CallRuntime& runtime, repository::Repository& repository);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_TRANSFER_SERVICE_H_
