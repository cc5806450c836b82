#ifndef SCONCE_SERVER_SERVICES_INFER_CALL_H_
#define SCONCE_SERVER_SERVICES_INFER_CALL_H_

#include <functional>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "inference/grpc_service.pb.h"
#include "server/inference/model_manager.h"

namespace sconce::services {

// Runs one request of ModelInfer or ModelStreamInfer: routes it, checks its inputs, queues it, and gives the shadow a
// copy. `done` is called exactly once, from any thread, perhaps before this returns; with OK the response is filled.
// Request and response live until then. Copies inputs, so in a gRPC reaction for small ones only. `cancelled` tells
// when nobody waits any more; it may be called until `done` is. The calling thread may be kept for `patience` to take
// the answer.
//
// The errors of ModelManager::Route, inference::BindInputs, inference::CheckInputs and Batcher::Infer;
// MODEL_INPUT_INVALID for parameters of the wrong kind.
void StartInfer(const inference::ModelManager& models, const ::inference::ModelInferRequest& request,
                ::inference::ModelInferResponse& response, absl::Time deadline, std::function<bool()> cancelled,
                absl::Duration patience, absl::AnyInvocable<void(absl::Status)> done);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_INFER_CALL_H_
