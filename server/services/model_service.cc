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
#include "proto/wire/tree_codec.h"
#include "sconce/v1/model_service.grpc.pb.h"
#include "server/inference/model_manager.h"
#include "server/rpc/unary.h"
#include "server/rpc/unimplemented.h"
#include "server/services/convert.h"
#include "storage/format/device_map.h"

namespace sconce::services {
namespace {

using inference::DeploymentSpec;
using inference::DeploymentStatus;
using inference::ModelManager;
using inference::ModelState;

constexpr char kService[] = "sconce.v1.ModelService";
// Deployments that load at once on behalf of waiting callers; each takes a thread for seconds.
constexpr int kDeployThreads = 2;
constexpr size_t kWaitingDeployments = 64;

v1::Model::State StateToProto(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return v1::Model::LOADING;
    case ModelState::kReady:
      return v1::Model::READY;
    case ModelState::kFailed:
      return v1::Model::FAILED;
  }
  return v1::Model::STATE_UNSPECIFIED;
}

v1::Model ModelToProto(const DeploymentStatus& status) {
  v1::Model model;
  const DeploymentSpec& spec = status.spec;
  model.set_name(wire::FormatModel(status.model));
  model.set_module(wire::FormatModule(spec.module_run.project, spec.module_run.run, spec.module));
  if (spec.weights.has_value()) {
    model.mutable_weights()->set_checkpoint(
        wire::FormatCheckpoint(spec.weights->run.project, spec.weights->run.run, spec.weights->selector));
    v1::WeightSource& weights = *model.mutable_weights();
    weights.set_path(spec.weights->path);
    weights.set_lenient(spec.weights->match.lenient);
    if (!spec.weights->rules.empty()) *weights.mutable_rules() = wire::ToProto(spec.weights->rules);
    weights.set_min_match(spec.weights->match.min_match);
  }
  model.set_device(spec.device);
  model.set_instance_count(1);
  model.set_state(StateToProto(status.state));
  model.set_reason(status.reason);
  for (const inference::VersionStatus& version : status.versions) {
    v1::Model::Version& shown = *model.add_versions();
    shown.set_version(version.version);
    shown.set_state(StateToProto(version.state));
    shown.set_reason(version.reason);
    *shown.mutable_transition_time() = TimeToProto(version.transition_time);
  }
  *model.mutable_create_time() = TimeToProto(status.create_time);
  model.set_etag(status.etag);
  return model;
}

absl::Status NotYet(absl::string_view what) {
  return MakeError(Reason::NOT_IMPLEMENTED, absl::StrCat(what, " is not implemented in this release; leave it unset"));
}

absl::StatusOr<DeploymentSpec> SpecFromProto(const v1::Model& model) {
  if (model.has_cast()) return NotYet("model.cast");
  if (model.has_batching()) return NotYet("model.batching");
  if (model.instance_count() > 1) return NotYet("model.instance_count above 1");
  if (model.instance_count() < 0) {
    return MakeError(Reason::ARGUMENT_INVALID, "model.instance_count is negative; 0 means 1");
  }
  DeploymentSpec spec;
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef module, wire::ParseModule(model.module()));
  spec.module_run = {module.run.project, module.run.run};
  spec.module = module.id;
  if (!model.weights().checkpoint().empty()) {
    SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef checkpoint, wire::ParseCheckpoint(model.weights().checkpoint()));
    const v1::WeightSource& weights = model.weights();
    spec.weights = inference::WeightsRef{{checkpoint.run.project, checkpoint.run.run},
                                         checkpoint.id,
                                         weights.path(),
                                         wire::FromProto(weights.rules()),
                                         {weights.lenient(), weights.min_match()}};
    SCONCE_RETURN_IF_ERROR(format::CheckKeyRules(spec.weights->rules));
    if (!(weights.min_match() >= 0 && weights.min_match() <= 1)) {
      return MakeError(Reason::ARGUMENT_INVALID, "model.weights.min_match is a share, from 0 to 1");
    }
  } else if (model.has_weights() && model.weights().ByteSizeLong() != 0) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     "model.weights says how to load without model.weights.checkpoint; name the checkpoint to load");
  }
  if (!model.device().empty()) spec.device = model.device();
  SCONCE_RETURN_IF_ERROR(format::ValidateDevice(spec.device));
  return spec;
}

absl::Status Deploy(ModelManager& models, rpc::CallScope& scope, const v1::DeployModelRequest& request,
                    v1::Model& response) {
  SCONCE_RETURN_IF_ERROR(wire::CheckId("model", request.model_id()));
  scope.SetResource(wire::FormatModel(request.model_id()));
  if (request.validate_only()) return NotYet("validate_only");
  SCONCE_ASSIGN_OR_RETURN(const std::string request_id, RequestIdFromProto(request.request_id()));
  SCONCE_ASSIGN_OR_RETURN(const DeploymentSpec spec, SpecFromProto(request.model()));
  SCONCE_ASSIGN_OR_RETURN(const DeploymentStatus status, models.Deploy(request.model_id(), spec, request_id));
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
  ModelService(rpc::CallRuntime& runtime, ModelManager& models)
      : runtime_(runtime), models_(models), deploy_pool_("model-deploy", kDeployThreads, kWaitingDeployments) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  // On threads of its own, since it takes seconds: other calls must not wait behind it.
  Reactor* DeployModel(Context* context, const v1::DeployModelRequest* request, v1::Model* response) override {
    return rpc::HandleUnaryAsync(
        runtime_, context, {kService, "DeployModel"}, request, response,
        [this](rpc::CallScope& scope, const v1::DeployModelRequest& req, v1::Model& resp, auto done) {
          auto shared_done = std::make_shared<decltype(done)>(std::move(done));
          const bool queued = deploy_pool_.TrySubmit([this, &scope, &req, &resp, shared_done] {
            absl::Status status = scope.CheckCancelled();
            if (status.ok()) status = Deploy(models_, scope, req, resp);
            (*shared_done)(status);
          });
          if (!queued) {
            (*shared_done)(
                MakeError(Reason::SERVER_OVERLOADED, "more deployments are waiting than the server takes; try again"));
          }
        });
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
  Reactor* UpdateModel(Context* context, const v1::UpdateModelRequest*, v1::Model*) override {
    return rpc::NotImplementedUnary(runtime_, context, {kService, "UpdateModel"},
                                    "undeploy the model and deploy it again");
  }
  grpc::ServerWriteReactor<v1::Model>* WatchModels(Context* context, const v1::WatchModelsRequest*) override {
    return new rpc::NotImplementedStream<grpc::ServerWriteReactor<v1::Model>>(
        runtime_, context, {kService, "WatchModels", rpc::CallKind::kServerStream}, "ask GetModel now and then");
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

  rpc::CallRuntime& runtime_;
  ModelManager& models_;
  ThreadPool deploy_pool_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeModelService(rpc::CallRuntime& runtime, inference::ModelManager& models) {
  return std::make_unique<ModelService>(runtime, models);
}

}  // namespace sconce::services
