#ifndef SCONCE_SERVER_SERVICES_PLAN_CALLS_H_
#define SCONCE_SERVER_SERVICES_PLAN_CALLS_H_

#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "sconce/v1/checkpoint_service.pb.h"
#include "server/rpc/call.h"
#include "storage/repository/repository.h"

// PlanLoad and its streamed form; what they promise is in checkpoint_service.proto.
namespace sconce::services {

// May block on the disk.
absl::Status PlanLoad(repository::Repository& repository, rpc::CallScope& scope, const v1::PlanLoadRequest& request,
                      v1::PlanLoadResponse& response);

// Reads all requests, plans on the stream pool, then writes the answer in pieces. gRPC deletes it. `repository` and
// `runtime` outlive it.
grpc::ServerBidiReactor<v1::PlanLoadRequest, v1::PlanLoadResponse>* NewPlanStream(rpc::CallRuntime& runtime,
                                                                                  grpc::CallbackServerContext* context,
                                                                                  const rpc::CallSpec& spec,
                                                                                  repository::Repository& repository);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_PLAN_CALLS_H_
