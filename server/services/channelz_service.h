#ifndef SCONCE_SERVER_SERVICES_CHANNELZ_SERVICE_H_
#define SCONCE_SERVER_SERVICES_CHANNELZ_SERVICE_H_

#include <memory>

#include "server/rpc/runtime.h"

namespace grpc {
class Service;
}

namespace sconce::services {

// grpc.channelz.v1.Channelz: what gRPC knows about its own connections, for operators. It shows the addresses of peers:
// for servers that only local clients reach. `runtime` is borrowed and outlives it.
std::unique_ptr<grpc::Service> MakeChannelzService(rpc::CallRuntime& runtime);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_CHANNELZ_SERVICE_H_
