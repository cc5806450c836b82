#ifndef SCONCE_SERVER_SERVICES_ADMIN_CALLS_H_
#define SCONCE_SERVER_SERVICES_ADMIN_CALLS_H_

#include <grpcpp/support/server_callback.h>

#include "sconce/v1/admin_service.pb.h"
#include "server/rpc/runtime.h"
#include "storage/repository/repository.h"

// The calls of AdminService that are more than a line, one file each.
namespace sconce::services {

// `request` lives as long as the call, the rest longer.
grpc::ServerWriteReactor<v1::VerifyResponse>* StartVerify(rpc::CallRuntime& runtime, repository::Repository& repository,
                                                          grpc::CallbackServerContext* context,
                                                          const v1::VerifyRequest* request);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_ADMIN_CALLS_H_
