#ifndef SCONCE_SERVER_SERVICES_MODEL_CONVERT_H_
#define SCONCE_SERVER_SERVICES_MODEL_CONVERT_H_

#include "absl/status/statusor.h"
#include "sconce/v1/model_service.pb.h"
#include "server/inference/deployment.h"

// Model messages and the structs behind them.
namespace sconce::services {

v1::Model ModelToProto(const inference::DeploymentStatus& status);

// What a Model asks for. NAME_INVALID, ARGUMENT_INVALID naming the field, CAST_INVALID, DEVICE_INVALID, the errors of
// format::CheckKeyRules.
absl::StatusOr<inference::DeploymentSpec> SpecFromProto(const v1::Model& model);

// `now` with the fields that the request's mask names (without one: those that are set) as the request has them.
// UPDATE_MASK_INVALID; the errors of SpecFromProto.
absl::StatusOr<inference::DeploymentSpec> ApplyUpdate(const inference::DeploymentSpec& now,
                                                      const v1::UpdateModelRequest& request);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_MODEL_CONVERT_H_
