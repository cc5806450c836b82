#include "server/services/inference_service.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "inference/grpc_service.grpc.pb.h"
#include "proto/wire/limits.h"
#include "server/inference/model_manager.h"
#include "server/rpc/unary.h"
#include "server/rpc/unimplemented.h"
#include "server/services/infer_translate.h"

namespace sconce::services {
namespace {

namespace oip = ::inference;
using inference::DeploymentStatus;
using inference::ModelManager;
using inference::ModelState;
using inference::ServingModel;
using rpc::CallScope;

constexpr char kService[] = "inference.GRPCInferenceService";
constexpr char kPlatform[] = "pytorch_torchscript";
constexpr char kUseModelService[] = "use sconce.v1.ModelService";

absl::string_view StateName(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "LOADING";
    case ModelState::kReady:
      return "READY";
    case ModelState::kFailed:
      return "UNAVAILABLE";
  }
  return "UNKNOWN";
}

absl::Status ModelReady(ModelManager& models, CallScope& scope, const oip::ModelReadyRequest& request,
                        oip::ModelReadyResponse& response) {
  scope.SetResource(request.name());
  const auto serving = models.Acquire(request.name(), request.version());
  if (!serving.ok() && !HasReason(serving.status(), Reason::MODEL_NOT_READY)) return serving.status();
  response.set_ready(serving.ok() && (*serving)->loaded->Health().ok());
  return absl::OkStatus();
}

absl::Status ModelMetadata(ModelManager& models, CallScope& scope, const oip::ModelMetadataRequest& request,
                           oip::ModelMetadataResponse& response) {
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const auto serving, models.Acquire(request.name(), request.version()));
  const inference::ModelSignature& signature = serving->loaded->signature();
  response.set_name(request.name());
  response.add_versions(absl::StrCat(serving->version));
  response.set_platform(kPlatform);
  // TorchScript says neither dtypes nor shapes: an empty datatype and -1.
  for (const inference::ModelArgument& input : signature.inputs) {
    auto& added = *response.add_inputs();
    added.set_name(input.name);
    added.add_shape(-1);
  }
  for (const std::string& output : signature.outputs) {
    auto& added = *response.add_outputs();
    added.set_name(output);
    added.add_shape(-1);
  }
  return absl::OkStatus();
}

absl::Status RepositoryIndex(ModelManager& models, CallScope&, const oip::RepositoryIndexRequest& request,
                             oip::RepositoryIndexResponse& response) {
  const auto add = [&](const std::string& model, const std::string& version, ModelState state,
                       const std::string& reason) {
    if (request.ready() && state != ModelState::kReady) return;
    auto& row = *response.add_models();
    row.set_name(model);
    row.set_version(version);
    row.set_state(std::string(StateName(state)));
    row.set_reason(reason);
  };
  for (const DeploymentStatus& status : models.List()) {
    if (status.versions.empty()) add(status.model, "", status.state, status.reason);
    for (const inference::VersionStatus& version : status.versions) {
      add(status.model, absl::StrCat(version.version), version.state, version.reason);
    }
  }
  return absl::OkStatus();
}

// Answers one ModelInfer; lives from the request to the end of its answer.
class InferCall {
 public:
  InferCall(const oip::ModelInferRequest& request, oip::ModelInferResponse& response,
            absl::AnyInvocable<void(absl::Status)> done)
      : request_(request), response_(response), done_(std::move(done)) {}

  void Finish(const absl::Status& status) { done_(status); }

  static void Run(const std::shared_ptr<InferCall>& call, ModelManager& models, CallScope& scope) {
    const absl::Status status = call->Start(call, models, scope);
    if (!status.ok()) call->Finish(status);
  }

 private:
  // OK when the model has the request and will finish it.
  absl::Status Start(const std::shared_ptr<InferCall>& self, ModelManager& models, CallScope& scope) {
    scope.SetResource(request_.model_name());
    SCONCE_RETURN_IF_ERROR(scope.CheckCancelled());
    SCONCE_ASSIGN_OR_RETURN(const absl::Time queue_deadline, QueueDeadline(request_));
    SCONCE_ASSIGN_OR_RETURN(const auto serving, models.Acquire(request_.model_name(), request_.model_version()));
    SCONCE_ASSIGN_OR_RETURN(const inference::InferRequest plain, FromProto(request_));
    SCONCE_ASSIGN_OR_RETURN(std::vector<inference::HostTensor> inputs,
                            inference::BindInputs(plain, serving->loaded->signature()));
    inference::QueuedRequest queued;
    queued.inputs = std::move(inputs);
    queued.deadline = scope.deadline();
    queued.queue_deadline = queue_deadline;
    queued.cancelled = [&scope] { return scope.cancelled(); };
    // The callback holds the model: it stays until the answer is there.
    queued.done = [self, serving](inference::InferResult result) {
      self->Finish(self->Answer(*serving, std::move(result)));
    };
    serving->loaded->Infer(std::move(queued));
    return absl::OkStatus();
  }

  absl::Status Answer(const ServingModel& serving, inference::InferResult result) {
    SCONCE_RETURN_IF_ERROR(result.status());
    std::vector<std::string> names;
    for (const auto& output : request_.outputs()) names.push_back(output.name());
    SCONCE_ASSIGN_OR_RETURN(const std::vector<inference::HostTensor> outputs,
                            inference::SelectOutputs(serving.model, names, *std::move(result)));
    response_.set_model_name(serving.model);
    response_.set_model_version(absl::StrCat(serving.version));
    response_.set_id(request_.id());
    return AddOutputs(outputs, UsesTypedContents(request_), response_);
  }

  const oip::ModelInferRequest& request_;
  oip::ModelInferResponse& response_;
  absl::AnyInvocable<void(absl::Status)> done_;
};

class InferenceService final : public oip::GRPCInferenceService::CallbackService {
 public:
  InferenceService(rpc::CallRuntime& runtime, ModelManager& models, const InferenceServiceOptions& options)
      : runtime_(runtime), models_(models), options_(options) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* ServerLive(Context* context, const oip::ServerLiveRequest* request,
                      oip::ServerLiveResponse* response) override {
    return rpc::HandleUnary(runtime_, context, AlwaysAnswered("ServerLive"), request, response,
                            [](CallScope&, const auto&, oip::ServerLiveResponse& resp) {
                              resp.set_live(true);
                              return absl::OkStatus();
                            });
  }
  Reactor* ServerReady(Context* context, const oip::ServerReadyRequest* request,
                       oip::ServerReadyResponse* response) override {
    return rpc::HandleUnary(runtime_, context, AlwaysAnswered("ServerReady"), request, response,
                            [this](CallScope&, const auto&, oip::ServerReadyResponse& resp) {
                              resp.set_ready(IsReady());
                              return absl::OkStatus();
                            });
  }
  Reactor* ServerMetadata(Context* context, const oip::ServerMetadataRequest* request,
                          oip::ServerMetadataResponse* response) override {
    return rpc::HandleUnary(runtime_, context, {kService, "ServerMetadata"}, request, response,
                            [this](CallScope&, const auto&, oip::ServerMetadataResponse& resp) {
                              resp.set_name("sconce");
                              resp.set_version(options_.server_version);
                              return absl::OkStatus();
                            });
  }
  Reactor* ModelReady(Context* context, const oip::ModelReadyRequest* request,
                      oip::ModelReadyResponse* response) override {
    return Answer(context, "ModelReady", request, response, services::ModelReady);
  }
  Reactor* ModelMetadata(Context* context, const oip::ModelMetadataRequest* request,
                         oip::ModelMetadataResponse* response) override {
    return Answer(context, "ModelMetadata", request, response, services::ModelMetadata);
  }
  Reactor* RepositoryIndex(Context* context, const oip::RepositoryIndexRequest* request,
                           oip::RepositoryIndexResponse* response) override {
    return Answer(context, "RepositoryIndex", request, response, services::RepositoryIndex);
  }

  // Copying a large input takes milliseconds, so it is done on the pool; the answer comes from the model's own thread.
  Reactor* ModelInfer(Context* context, const oip::ModelInferRequest* request,
                      oip::ModelInferResponse* response) override {
    rpc::CallSpec spec{kService, "ModelInfer"};
    spec.max_request_bytes = wire::kMaxInferenceMessageBytes;
    return rpc::HandleUnaryAsync(
        runtime_, context, spec, request, response,
        [this](CallScope& scope, const oip::ModelInferRequest& req, oip::ModelInferResponse& resp, auto done) {
          auto call = std::make_shared<InferCall>(req, resp, std::move(done));
          if (!runtime_.unary_pool().TrySubmit([this, &scope, call] { InferCall::Run(call, models_, scope); })) {
            call->Finish(MakeError(Reason::SERVER_OVERLOADED, "the server has more calls than it can take; try again"));
          }
        });
  }

  grpc::ServerBidiReactor<oip::ModelInferRequest, oip::ModelStreamInferResponse>* ModelStreamInfer(
      Context* context) override {
    return new rpc::NotImplementedStream<
        grpc::ServerBidiReactor<oip::ModelInferRequest, oip::ModelStreamInferResponse>>(
        runtime_, context, {kService, "ModelStreamInfer", rpc::CallKind::kBidiStream}, "use ModelInfer");
  }
  Reactor* ModelConfig(Context* context, const oip::ModelConfigRequest*, oip::ModelConfigResponse*) override {
    return rpc::NotImplementedUnary(runtime_, context, {kService, "ModelConfig"}, kUseModelService);
  }
  Reactor* ModelStatistics(Context* context, const oip::ModelStatisticsRequest*,
                           oip::ModelStatisticsResponse*) override {
    return rpc::NotImplementedUnary(runtime_, context, {kService, "ModelStatistics"});
  }
  Reactor* RepositoryModelLoad(Context* context, const oip::RepositoryModelLoadRequest*,
                               oip::RepositoryModelLoadResponse*) override {
    return rpc::NotImplementedUnary(runtime_, context, {kService, "RepositoryModelLoad"}, kUseModelService);
  }
  Reactor* RepositoryModelUnload(Context* context, const oip::RepositoryModelUnloadRequest*,
                                 oip::RepositoryModelUnloadResponse*) override {
    return rpc::NotImplementedUnary(runtime_, context, {kService, "RepositoryModelUnload"}, kUseModelService);
  }

 private:
  static rpc::CallSpec AlwaysAnswered(absl::string_view method) {
    rpc::CallSpec spec{kService, method};
    spec.admission = rpc::Admission::kAlways;
    return spec;
  }

  bool IsReady() const {
    if (runtime_.draining() || (options_.server_ready && !options_.server_ready())) return false;
    const std::vector<DeploymentStatus> all = models_.List();
    return std::all_of(all.begin(), all.end(),
                       [](const DeploymentStatus& status) { return status.state == ModelState::kReady; });
  }

  template <typename Request, typename Response>
  Reactor* Answer(Context* context, const char* method, const Request* request, Response* response,
                  absl::Status (*call)(ModelManager&, CallScope&, const Request&, Response&)) {
    return rpc::HandleUnary(
        runtime_, context, {kService, method}, request, response,
        [this, call](CallScope& scope, const Request& req, Response& resp) { return call(models_, scope, req, resp); });
  }

  rpc::CallRuntime& runtime_;
  ModelManager& models_;
  const InferenceServiceOptions options_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(rpc::CallRuntime& runtime, inference::ModelManager& models,
                                                    const InferenceServiceOptions& options) {
  return std::make_unique<InferenceService>(runtime, models, options);
}

}  // namespace sconce::services
