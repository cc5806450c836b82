#ifndef SCONCE_SERVER_SERVICES_INFER_TRANSLATE_H_
#define SCONCE_SERVER_SERVICES_INFER_TRANSLATE_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "inference/grpc_service.pb.h"
#include "server/inference/infer_request.h"
#include "server/inference/model_manager.h"
#include "server/inference/runtime.h"

// Messages of the Open Inference Protocol and the plain structs behind them, both ways.
namespace sconce::services {

// Refers to the message's bytes. MODEL_INPUT_INVALID for what no model could take; NOT_IMPLEMENTED for a sequence.
absl::StatusOr<inference::InferRequest> FromProto(const ::inference::ModelInferRequest& request);

// Which version a request asks for: its model_version, or its parameter `min_version` (int64_param), and its id.
// MODEL_INPUT_INVALID when that is no positive number.
absl::StatusOr<inference::VersionRequest> VersionFromProto(const ::inference::ModelInferRequest& request);

// When a request gives up waiting for its turn by its own `timeout` parameter (microseconds); InfiniteFuture without
// one. MODEL_INPUT_INVALID when that is no positive number.
absl::StatusOr<absl::Time> QueueDeadline(const ::inference::ModelInferRequest& request);

// Adds the outputs: raw, or in typed `contents` when the request used those (so that people can read the answer) and
// all datatypes have a field there. MODEL_FAILED for a dtype that the protocol does not know.
absl::Status AddOutputs(const std::vector<inference::HostTensor>& outputs, bool typed,
                        ::inference::ModelInferResponse& response);

// True when the request gave its values in `contents`.
bool UsesTypedContents(const ::inference::ModelInferRequest& request);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_INFER_TRANSLATE_H_
