#ifndef SCONCE_SERVER_SERVICES_MODEL_DESCRIPTION_H_
#define SCONCE_SERVER_SERVICES_MODEL_DESCRIPTION_H_

#include "absl/status/status.h"
#include "inference/grpc_service.pb.h"
#include "server/inference/model_manager.h"
#include "server/rpc/call.h"

// The calls of the Open Inference Protocol that describe models. Their errors are those of ModelManager::Acquire.
namespace sconce::services {

// A model that is known but does not answer is not ready, which is no error.
absl::Status ModelReady(inference::ModelManager& models, rpc::CallScope& scope,
                        const ::inference::ModelReadyRequest& request, ::inference::ModelReadyResponse& response);
absl::Status ModelMetadata(inference::ModelManager& models, rpc::CallScope& scope,
                           const ::inference::ModelMetadataRequest& request,
                           ::inference::ModelMetadataResponse& response);
absl::Status ModelConfig(inference::ModelManager& models, rpc::CallScope& scope,
                         const ::inference::ModelConfigRequest& request, ::inference::ModelConfigResponse& response);
// Of one version, of all loaded ones of a model, or (without a name) of all models.
absl::Status ModelStatistics(inference::ModelManager& models, rpc::CallScope& scope,
                             const ::inference::ModelStatisticsRequest& request,
                             ::inference::ModelStatisticsResponse& response);
absl::Status RepositoryIndex(inference::ModelManager& models, rpc::CallScope& scope,
                             const ::inference::RepositoryIndexRequest& request,
                             ::inference::RepositoryIndexResponse& response);

// NOT_IMPLEMENTED for a name that is not "": there is one repository.
absl::Status CheckRepositoryName(const std::string& name);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_MODEL_DESCRIPTION_H_
