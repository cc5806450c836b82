#include "server/services/inference_service.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/thread_pool.h"
#include "inference/grpc_service.grpc.pb.h"
#include "proto/wire/limits.h"
#include "server/inference/model_manager.h"
#include "server/rpc/unary.h"
#include "server/services/infer_call.h"
#include "server/services/infer_stream.h"
#include "server/services/may_deploy.h"
#include "server/services/model_description.h"

namespace sconce::services {
namespace {

namespace oip = ::inference;
using inference::DeploymentStatus;
using inference::ModelManager;
using inference::ModelState;
using rpc::CallScope;

constexpr char kService[] = "inference.GRPCInferenceService";
// Loads on behalf of waiting callers; each takes a thread for seconds.
constexpr int kLoadThreads = 2;
constexpr size_t kWaitingLoads = 64;
constexpr int64_t kSmallRequestBytes = int64_t{64} << 10;
constexpr absl::Duration kMostPatience = absl::Microseconds(300);
constexpr const char* kExtensions[] = {"model_repository", "model_configuration", "parameters", "statistics"};

absl::Status Load(ModelManager& models, CallScope& scope, const oip::RepositoryModelLoadRequest& request,
                  oip::RepositoryModelLoadResponse&) {
  SCONCE_RETURN_IF_ERROR(CheckMayDeploy(scope));
  scope.SetResource(request.model_name());
  SCONCE_RETURN_IF_ERROR(CheckRepositoryName(request.repository_name()));
  for (const auto& [name, value] : request.parameters()) {
    if (name != "config" && !absl::StartsWith(ToAbsl(name), "file:")) continue;
    return MakeError(Reason::NOT_IMPLEMENTED,
                     absl::StrCat("parameter ", Quoted(name, 40),
                                  ": a load does not bring a model or its "
                                  "configuration; push the module and deploy it with sconce.v1.ModelService"));
  }
  return models.LoadAgain(request.model_name());
}

absl::Status Unload(ModelManager& models, CallScope& scope, const oip::RepositoryModelUnloadRequest& request,
                    oip::RepositoryModelUnloadResponse&) {
  scope.SetResource(request.model_name());
  SCONCE_RETURN_IF_ERROR(CheckRepositoryName(request.repository_name()));
  return models.Unload(request.model_name());
}

class InferenceService final : public oip::GRPCInferenceService::CallbackService {
 public:
  InferenceService(rpc::CallRuntime& runtime, ModelManager& models, const InferenceServiceOptions& options)
      : runtime_(runtime),
        models_(models),
        options_(options),
        load_pool_("model-reload", kLoadThreads, kWaitingLoads) {}

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
                              for (const char* extension : kExtensions) resp.add_extensions(extension);
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

  Reactor* ModelConfig(Context* context, const oip::ModelConfigRequest* request,
                       oip::ModelConfigResponse* response) override {
    return Answer(context, "ModelConfig", request, response, services::ModelConfig);
  }
  Reactor* ModelStatistics(Context* context, const oip::ModelStatisticsRequest* request,
                           oip::ModelStatisticsResponse* response) override {
    return Answer(context, "ModelStatistics", request, response, services::ModelStatistics);
  }
  Reactor* RepositoryModelUnload(Context* context, const oip::RepositoryModelUnloadRequest* request,
                                 oip::RepositoryModelUnloadResponse* response) override {
    return Answer(context, "RepositoryModelUnload", request, response, Unload);
  }

  // On threads of its own, since it may take seconds.
  Reactor* RepositoryModelLoad(Context* context, const oip::RepositoryModelLoadRequest* request,
                               oip::RepositoryModelLoadResponse* response) override {
    return rpc::HandleUnaryAsync(runtime_, context, {kService, "RepositoryModelLoad"}, request, response,
                                 [this](CallScope& scope, const oip::RepositoryModelLoadRequest& req,
                                        oip::RepositoryModelLoadResponse& resp, auto done) {
                                   auto shared_done = std::make_shared<decltype(done)>(std::move(done));
                                   const bool queued = load_pool_.TrySubmit([this, &scope, &req, &resp, shared_done] {
                                     absl::Status status = scope.CheckCancelled();
                                     if (status.ok()) status = Load(models_, scope, req, resp);
                                     (*shared_done)(status);
                                   });
                                   if (!queued) (*shared_done)(Overloaded());
                                 });
  }

  // A request that copies in no time is handed to the model at once: a switch to another thread costs more than that.
  // Copying a large one takes milliseconds, so that is done on the pool. The answer comes from the model's own thread,
  // or from this one if it is there in no time either.
  Reactor* ModelInfer(Context* context, const oip::ModelInferRequest* request,
                      oip::ModelInferResponse* response) override {
    rpc::CallSpec spec{kService, "ModelInfer"};
    spec.max_request_bytes = wire::kMaxInferenceMessageBytes;
    return rpc::HandleUnaryAsync(
        runtime_, context, spec, request, response,
        [this](CallScope& scope, const oip::ModelInferRequest& req, oip::ModelInferResponse& resp, auto done) {
          if (scope.bytes_in() <= kSmallRequestBytes) return InferHere(scope, req, resp, std::move(done));
          auto shared_done = std::make_shared<decltype(done)>(std::move(done));
          const bool queued = runtime_.unary_pool().TrySubmit([this, &scope, &req, &resp, shared_done] {
            const absl::Status status = scope.CheckCancelled();
            if (!status.ok()) return (*shared_done)(status);
            Infer(scope, req, resp, absl::ZeroDuration(), std::move(*shared_done));
          });
          if (!queued) (*shared_done)(Overloaded());
        });
  }
  grpc::ServerBidiReactor<oip::ModelInferRequest, oip::ModelStreamInferResponse>* ModelStreamInfer(
      Context* context) override {
    rpc::CallSpec spec{kService, "ModelStreamInfer", rpc::CallKind::kBidiStream};
    spec.max_request_bytes = wire::kMaxInferenceMessageBytes;
    return new InferStream(runtime_, context, spec, models_);
  }

 private:
  void Infer(CallScope& scope, const oip::ModelInferRequest& request, oip::ModelInferResponse& response,
             absl::Duration patience, absl::AnyInvocable<void(absl::Status)> done) {
    scope.SetResource(request.model_name());
    StartInfer(
        models_, request, response, scope.deadline(), [&scope] { return scope.cancelled(); }, patience,
        std::move(done));
  }
  // In a gRPC reaction. Of gRPC's threads, of which there are at least two, one may wait for a quick model.
  void InferHere(CallScope& scope, const oip::ModelInferRequest& request, oip::ModelInferResponse& response,
                 absl::AnyInvocable<void(absl::Status)> done) {
    const bool lends = !lent_.exchange(true);
    Infer(scope, request, response, lends ? kMostPatience : absl::ZeroDuration(), std::move(done));
    if (lends) lent_ = false;
  }

  static absl::Status Overloaded() {
    return MakeError(Reason::SERVER_OVERLOADED, "the server has more calls than it can take; try again");
  }
  static rpc::CallSpec AlwaysAnswered(absl::string_view method) {
    rpc::CallSpec spec{kService, method};
    spec.admission = rpc::Admission::kAlways;
    return spec;
  }

  bool IsReady() const {
    if (runtime_.draining() || (options_.server_ready && !options_.server_ready())) return false;
    const std::vector<DeploymentStatus> all = models_.List();
    return std::all_of(all.begin(), all.end(), [](const DeploymentStatus& status) {
      return status.state == ModelState::kReady || status.state == ModelState::kUnloaded;
    });
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
  ThreadPool load_pool_;
  std::atomic<bool> lent_{false};
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(rpc::CallRuntime& runtime, inference::ModelManager& models,
                                                    const InferenceServiceOptions& options) {
  return std::make_unique<InferenceService>(runtime, models, options);
}

}  // namespace sconce::services
