#include "server/services/checkpoint_service.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "server/rpc/unary.h"
#include "server/rpc/unimplemented.h"
#include "server/services/checkpoint_calls.h"
#include "server/services/plan_calls.h"
#include "server/services/watch_hub.h"

namespace sconce::services {
namespace {

constexpr char kService[] = "sconce.v1.CheckpointService";

// Takes each call to its function in checkpoint_calls.h.
class CheckpointService final : public v1::CheckpointService::CallbackService {
 public:
  CheckpointService(rpc::CallRuntime& runtime, Repository& repository, WatchHub& watches, ModuleUser module_user)
      : runtime_(runtime), repository_(repository), watches_(watches), module_user_(std::move(module_user)) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* CreateRun(Context* context, const v1::CreateRunRequest* request, v1::Run* response) override {
    return Answer(context, "CreateRun", request, response, services::CreateRun);
  }
  Reactor* GetRun(Context* context, const v1::GetRunRequest* request, v1::Run* response) override {
    return Answer(context, "GetRun", request, response, services::GetRun);
  }
  Reactor* ListRuns(Context* context, const v1::ListRunsRequest* request, v1::ListRunsResponse* response) override {
    return Answer(context, "ListRuns", request, response, services::ListRuns);
  }
  Reactor* UpdateRun(Context* context, const v1::UpdateRunRequest* request, v1::Run* response) override {
    return Answer(context, "UpdateRun", request, response, services::UpdateRun);
  }
  Reactor* DeleteRun(Context* context, const v1::DeleteRunRequest* request,
                     google::protobuf::Empty* response) override {
    return Answer(context, "DeleteRun", request, response, services::DeleteRun);
  }
  Reactor* GetCheckpoint(Context* context, const v1::GetCheckpointRequest* request, v1::Checkpoint* response) override {
    return Answer(context, "GetCheckpoint", request, response, services::GetCheckpoint);
  }
  Reactor* ListCheckpoints(Context* context, const v1::ListCheckpointsRequest* request,
                           v1::ListCheckpointsResponse* response) override {
    return Answer(context, "ListCheckpoints", request, response, services::ListCheckpoints);
  }
  Reactor* UpdateCheckpoint(Context* context, const v1::UpdateCheckpointRequest* request,
                            v1::Checkpoint* response) override {
    return Answer(context, "UpdateCheckpoint", request, response, services::UpdateCheckpoint);
  }
  Reactor* DeleteCheckpoint(Context* context, const v1::DeleteCheckpointRequest* request,
                            google::protobuf::Empty* response) override {
    return Answer(context, "DeleteCheckpoint", request, response, services::DeleteCheckpoint);
  }
  Reactor* DescribeCheckpoint(Context* context, const v1::DescribeCheckpointRequest* request,
                              v1::DescribeCheckpointResponse* response) override {
    return Answer(context, "DescribeCheckpoint", request, response, services::DescribeCheckpoint);
  }
  Reactor* SetAlias(Context* context, const v1::SetAliasRequest* request, v1::Alias* response) override {
    return Answer(context, "SetAlias", request, response, services::SetAlias);
  }
  Reactor* GetAlias(Context* context, const v1::GetAliasRequest* request, v1::Alias* response) override {
    return Answer(context, "GetAlias", request, response, services::GetAlias);
  }
  Reactor* ListAliases(Context* context, const v1::ListAliasesRequest* request,
                       v1::ListAliasesResponse* response) override {
    return Answer(context, "ListAliases", request, response, services::ListAliases);
  }
  Reactor* DeleteAlias(Context* context, const v1::DeleteAliasRequest* request,
                       google::protobuf::Empty* response) override {
    return Answer(context, "DeleteAlias", request, response, services::DeleteAlias);
  }
  Reactor* GetModule(Context* context, const v1::GetModuleRequest* request, v1::Module* response) override {
    return Answer(context, "GetModule", request, response, services::GetModule);
  }
  Reactor* ListModules(Context* context, const v1::ListModulesRequest* request,
                       v1::ListModulesResponse* response) override {
    return Answer(context, "ListModules", request, response, services::ListModules);
  }
  Reactor* DeleteModule(Context* context, const v1::DeleteModuleRequest* request,
                        google::protobuf::Empty* response) override {
    return rpc::HandleUnary(runtime_, context, {kService, "DeleteModule"}, request, response,
                            [this](CallScope& scope, const v1::DeleteModuleRequest& req, google::protobuf::Empty&) {
                              return services::DeleteModule(repository_, scope, req, module_user_);
                            });
  }

  Reactor* PlanLoad(Context* context, const v1::PlanLoadRequest* request, v1::PlanLoadResponse* response) override {
    return Answer(context, "PlanLoad", request, response, services::PlanLoad);
  }
  grpc::ServerBidiReactor<v1::PlanLoadRequest, v1::PlanLoadResponse>* PlanLargeLoad(Context* context) override {
    return NewPlanStream(runtime_, context, {kService, "PlanLargeLoad", rpc::CallKind::kBidiStream}, repository_);
  }
  Reactor* DiffCheckpoints(Context* context, const v1::DiffCheckpointsRequest*, v1::DiffCheckpointsResponse*) override {
    return rpc::NotImplementedUnary(runtime_, context, {kService, "DiffCheckpoints"},
                                    "compare the pages of two DescribeCheckpoint calls");
  }
  grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>* WatchCheckpoints(
      Context* context, const v1::WatchCheckpointsRequest* request) override {
    return watches_.Watch(context, request);
  }

 private:
  template <typename Request, typename Response>
  Reactor* Answer(Context* context, const char* method, const Request* request, Response* response,
                  absl::Status (*call)(Repository&, CallScope&, const Request&, Response&)) {
    return rpc::HandleUnary(runtime_, context, {kService, method}, request, response,
                            [this, call](CallScope& scope, const Request& req, Response& resp) {
                              return call(repository_, scope, req, resp);
                            });
  }

  rpc::CallRuntime& runtime_;
  Repository& repository_;
  WatchHub& watches_;
  const ModuleUser module_user_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeCheckpointService(rpc::CallRuntime& runtime, repository::Repository& repository,
                                                     WatchHub& watches, ModuleUser module_user) {
  return std::make_unique<CheckpointService>(runtime, repository, watches, std::move(module_user));
}

}  // namespace sconce::services
