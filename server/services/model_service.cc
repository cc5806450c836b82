#include "server/services/model_service.h"

#include <grpcpp/server_context.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "proto/wire/page_token.h"
#include "proto/wire/resource_name.h"
#include "sconce/v1/model_service.grpc.pb.h"
#include "server/inference/model_manager.h"
#include "server/rpc/unary.h"
#include "server/services/convert.h"
#include "server/services/may_deploy.h"
#include "server/services/model_convert.h"
#include "server/services/model_watch.h"

namespace sconce::services {
namespace {

using inference::DeploymentSpec;
using inference::DeploymentStatus;
using inference::ModelManager;

constexpr char kService[] = "sconce.v1.ModelService";
// Versions that load at once on behalf of waiting callers; each takes a thread for seconds.
constexpr int kDeployThreads = 2;
constexpr size_t kWaitingDeployments = 64;

absl::Status Deploy(ModelManager& models, rpc::CallScope& scope, const v1::DeployModelRequest& request,
                    v1::Model& response) {
  SCONCE_RETURN_IF_ERROR(CheckMayDeploy(scope));
  SCONCE_RETURN_IF_ERROR(wire::CheckId("model", request.model_id()));
  scope.SetResource(wire::FormatModel(request.model_id()));
  SCONCE_ASSIGN_OR_RETURN(const std::string request_id, RequestIdFromProto(request.request_id()));
  SCONCE_ASSIGN_OR_RETURN(const DeploymentSpec spec, SpecFromProto(request.model()));
  SCONCE_ASSIGN_OR_RETURN(const DeploymentStatus status,
                          models.Deploy(request.model_id(), spec, request_id, request.validate_only()));
  response = ModelToProto(status);
  return absl::OkStatus();
}

absl::Status Update(ModelManager& models, rpc::CallScope& scope, const v1::UpdateModelRequest& request,
                    v1::Model& response) {
  SCONCE_RETURN_IF_ERROR(CheckMayDeploy(scope));
  SCONCE_ASSIGN_OR_RETURN(const std::string model, wire::ParseModel(request.model().name()));
  scope.SetResource(request.model().name());
  SCONCE_ASSIGN_OR_RETURN(const DeploymentStatus status,
                          models.Update(model, request.model().etag(),
                                        [&request](const DeploymentSpec& now) { return ApplyUpdate(now, request); }));
  response = ModelToProto(status);
  return absl::OkStatus();
}

absl::Status Rollback(ModelManager& models, rpc::CallScope& scope, const v1::RollbackModelRequest& request,
                      v1::Model& response) {
  SCONCE_RETURN_IF_ERROR(CheckMayDeploy(scope));
  SCONCE_ASSIGN_OR_RETURN(const std::string model, wire::ParseModel(request.name()));
  scope.SetResource(request.name());
  if (request.version() < 0) return MakeError(Reason::ARGUMENT_INVALID, "version is negative; 0 means the one before");
  SCONCE_ASSIGN_OR_RETURN(const DeploymentStatus status, models.Rollback(model, request.etag(), request.version()));
  response = ModelToProto(status);
  return absl::OkStatus();
}

absl::Status Undeploy(ModelManager& models, rpc::CallScope& scope, const v1::UndeployModelRequest& request,
                      google::protobuf::Empty&) {
  SCONCE_ASSIGN_OR_RETURN(const std::string model, wire::ParseModel(request.name()));
  scope.SetResource(request.name());
  const absl::Status status = models.Undeploy(model);
  return request.allow_missing() && HasReason(status, Reason::MODEL_NOT_FOUND) ? absl::OkStatus() : status;
}

absl::Status Get(ModelManager& models, rpc::CallScope& scope, const v1::GetModelRequest& request, v1::Model& response) {
  SCONCE_ASSIGN_OR_RETURN(const std::string model, wire::ParseModel(request.name()));
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const DeploymentStatus status, models.Get(model));
  response = ModelToProto(status);
  return absl::OkStatus();
}

absl::Status List(ModelManager& models, rpc::CallScope&, const v1::ListModelsRequest& request,
                  v1::ListModelsResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t page_size, wire::PageSize(request.page_size()));
  SCONCE_ASSIGN_OR_RETURN(const std::string start, wire::DecodePageToken(request));
  for (const DeploymentStatus& status : models.List()) {  // by name; `start` is the first of the page
    if (status.model < start) continue;
    if (response.models_size() == page_size) {
      response.set_next_page_token(wire::EncodePageToken(request, status.model));
      break;
    }
    *response.add_models() = ModelToProto(status);
  }
  return absl::OkStatus();
}

class ModelService final : public v1::ModelService::CallbackService {
 public:
  ModelService(rpc::CallRuntime& runtime, ModelManager& models, ModelWatches& watches)
      : runtime_(runtime),
        models_(models),
        watches_(watches),
        deploy_pool_("model-deploy", kDeployThreads, kWaitingDeployments) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* DeployModel(Context* context, const v1::DeployModelRequest* request, v1::Model* response) override {
    return AnswerSlowly(context, "DeployModel", request, response, Deploy);
  }
  Reactor* RollbackModel(Context* context, const v1::RollbackModelRequest* request, v1::Model* response) override {
    return AnswerSlowly(context, "RollbackModel", request, response, Rollback);
  }
  Reactor* UpdateModel(Context* context, const v1::UpdateModelRequest* request, v1::Model* response) override {
    return Answer(context, "UpdateModel", request, response, Update);
  }
  Reactor* UndeployModel(Context* context, const v1::UndeployModelRequest* request,
                         google::protobuf::Empty* response) override {
    return Answer(context, "UndeployModel", request, response, Undeploy);
  }
  Reactor* GetModel(Context* context, const v1::GetModelRequest* request, v1::Model* response) override {
    return Answer(context, "GetModel", request, response, Get);
  }
  Reactor* ListModels(Context* context, const v1::ListModelsRequest* request,
                      v1::ListModelsResponse* response) override {
    return Answer(context, "ListModels", request, response, List);
  }
  grpc::ServerWriteReactor<v1::Model>* WatchModels(Context* context, const v1::WatchModelsRequest* request) override {
    return watches_.Watch(context, request);
  }

 private:
  template <typename Request, typename Response>
  Reactor* Answer(Context* context, const char* method, const Request* request, Response* response,
                  absl::Status (*call)(ModelManager&, rpc::CallScope&, const Request&, Response&)) {
    return rpc::HandleUnary(runtime_, context, {kService, method}, request, response,
                            [this, call](rpc::CallScope& scope, const Request& req, Response& resp) {
                              return call(models_, scope, req, resp);
                            });
  }

  // On threads of its own, since it may take seconds: other calls must not wait behind it.
  template <typename Request, typename Response>
  Reactor* AnswerSlowly(Context* context, const char* method, const Request* request, Response* response,
                        absl::Status (*call)(ModelManager&, rpc::CallScope&, const Request&, Response&)) {
    return rpc::HandleUnaryAsync(
        runtime_, context, {kService, method}, request, response,
        [this, call](rpc::CallScope& scope, const Request& req, Response& resp, auto done) {
          auto shared_done = std::make_shared<decltype(done)>(std::move(done));
          const bool queued = deploy_pool_.TrySubmit([this, call, &scope, &req, &resp, shared_done] {
            absl::Status status = scope.CheckCancelled();
            if (status.ok()) status = call(models_, scope, req, resp);
            (*shared_done)(status);
          });
          if (!queued) {
            (*shared_done)(
                MakeError(Reason::SERVER_OVERLOADED, "more deployments are waiting than the server takes; try again"));
          }
        });
  }

  rpc::CallRuntime& runtime_;
  ModelManager& models_;
  ModelWatches& watches_;
  ThreadPool deploy_pool_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeModelService(rpc::CallRuntime& runtime, inference::ModelManager& models,
                                                ModelWatches& watches) {
  return std::make_unique<ModelService>(runtime, models, watches);
}

}  // namespace sconce::services
