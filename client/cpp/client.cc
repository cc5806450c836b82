#include "client/cpp/client.h"

#include <openssl/rand.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cpp/connection.h"
#include "client/cpp/state.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace sconce::client {

namespace health = grpc::health::v1;

std::string NewRequestId() {
  uint8_t b[16];
  SCONCE_CHECK(RAND_bytes(b, sizeof b) == 1);
  b[6] = static_cast<uint8_t>((b[6] & 0x0F) | 0x40);
  b[8] = static_cast<uint8_t>((b[8] & 0x3F) | 0x80);
  const std::string hex = ToHex(b);
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                      hex.substr(20));
}

std::unique_ptr<Client> Client::Connect(const ClientOptions& options) {
  return std::unique_ptr<Client>(new Client(std::make_unique<State>(options)));
}

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::~Client() = default;

// Each unary call is its stub's method. The last argument of a row says whether it may be tried again: what reads, and
// what a request_id makes safe. (CreateRun and DeployModel get one when the caller gave none.)
#define SCONCE_CLIENT_CALL_(name, stub, Service, method, Request, Response, repeatable)                              \
  absl::StatusOr<Response> Client::name(const Request& request) {                                                    \
    return state_->connection.Call<Service::Stub, Request, Response>(*state_->stub, &Service::Stub::method, request, \
                                                                     repeatable);                                    \
  }
SCONCE_CLIENT_CALL_(GetRun, checkpoints, v1::CheckpointService, GetRun, v1::GetRunRequest, v1::Run, true)
SCONCE_CLIENT_CALL_(ListRuns, checkpoints, v1::CheckpointService, ListRuns, v1::ListRunsRequest, v1::ListRunsResponse,
                    true)
SCONCE_CLIENT_CALL_(UpdateRun, checkpoints, v1::CheckpointService, UpdateRun, v1::UpdateRunRequest, v1::Run, false)
SCONCE_CLIENT_CALL_(GetCheckpoint, checkpoints, v1::CheckpointService, GetCheckpoint, v1::GetCheckpointRequest,
                    v1::Checkpoint, true)
SCONCE_CLIENT_CALL_(ListCheckpoints, checkpoints, v1::CheckpointService, ListCheckpoints, v1::ListCheckpointsRequest,
                    v1::ListCheckpointsResponse, true)
SCONCE_CLIENT_CALL_(UpdateCheckpoint, checkpoints, v1::CheckpointService, UpdateCheckpoint, v1::UpdateCheckpointRequest,
                    v1::Checkpoint, false)
SCONCE_CLIENT_CALL_(DescribeCheckpoint, checkpoints, v1::CheckpointService, DescribeCheckpoint,
                    v1::DescribeCheckpointRequest, v1::DescribeCheckpointResponse, true)
SCONCE_CLIENT_CALL_(SetAlias, checkpoints, v1::CheckpointService, SetAlias, v1::SetAliasRequest, v1::Alias, false)
SCONCE_CLIENT_CALL_(GetAlias, checkpoints, v1::CheckpointService, GetAlias, v1::GetAliasRequest, v1::Alias, true)
SCONCE_CLIENT_CALL_(ListAliases, checkpoints, v1::CheckpointService, ListAliases, v1::ListAliasesRequest,
                    v1::ListAliasesResponse, true)
SCONCE_CLIENT_CALL_(GetModule, checkpoints, v1::CheckpointService, GetModule, v1::GetModuleRequest, v1::Module, true)
SCONCE_CLIENT_CALL_(ListModules, checkpoints, v1::CheckpointService, ListModules, v1::ListModulesRequest,
                    v1::ListModulesResponse, true)
SCONCE_CLIENT_CALL_(GetModel, models, v1::ModelService, GetModel, v1::GetModelRequest, v1::Model, true)
SCONCE_CLIENT_CALL_(ListModels, models, v1::ModelService, ListModels, v1::ListModelsRequest, v1::ListModelsResponse,
                    true)
SCONCE_CLIENT_CALL_(UpdateModel, models, v1::ModelService, UpdateModel, v1::UpdateModelRequest, v1::Model, false)
SCONCE_CLIENT_CALL_(RollbackModel, models, v1::ModelService, RollbackModel, v1::RollbackModelRequest, v1::Model, false)
SCONCE_CLIENT_CALL_(Infer, inference, inference::GRPCInferenceService, ModelInfer, inference::ModelInferRequest,
                    inference::ModelInferResponse, true)
SCONCE_CLIENT_CALL_(GetModelMetadata, inference, inference::GRPCInferenceService, ModelMetadata,
                    inference::ModelMetadataRequest, inference::ModelMetadataResponse, true)
SCONCE_CLIENT_CALL_(CollectGarbage, admin, v1::AdminService, CollectGarbage, v1::CollectGarbageRequest,
                    v1::CollectGarbageResponse, true)
SCONCE_CLIENT_CALL_(PreviewRetention, admin, v1::AdminService, PreviewRetention, v1::PreviewRetentionRequest,
                    v1::PreviewRetentionResponse, true)
SCONCE_CLIENT_CALL_(GetUpload, transfer, v1::TransferService, GetUpload, v1::GetUploadRequest, v1::Upload, true)
SCONCE_CLIENT_CALL_(CommitUpload, transfer, v1::TransferService, CommitUpload, v1::CommitUploadRequest, v1::Checkpoint,
                    true)
SCONCE_CLIENT_CALL_(Backup, admin, v1::AdminService, Backup, v1::BackupRequest, v1::BackupResponse, false)
SCONCE_CLIENT_CALL_(GetStats, admin, v1::AdminService, GetStats, v1::GetStatsRequest, v1::Stats, true)
#undef SCONCE_CLIENT_CALL_

#define SCONCE_CLIENT_CREATE_(name, stub, Service, Request, Response)                                              \
  absl::StatusOr<Response> Client::name(const Request& request) {                                                  \
    Request with_id = request;                                                                                     \
    if (with_id.request_id().empty()) with_id.set_request_id(NewRequestId());                                      \
    return state_->connection.Call<Service::Stub, Request, Response>(*state_->stub, &Service::Stub::name, with_id, \
                                                                     true);                                        \
  }
SCONCE_CLIENT_CREATE_(CreateRun, checkpoints, v1::CheckpointService, v1::CreateRunRequest, v1::Run)
SCONCE_CLIENT_CREATE_(DeployModel, models, v1::ModelService, v1::DeployModelRequest, v1::Model)
#undef SCONCE_CLIENT_CREATE_

#define SCONCE_CLIENT_DELETE_(name, stub, Service, Request)                                                         \
  absl::Status Client::name(const Request& request) {                                                               \
    return state_->connection                                                                                       \
        .Call<Service::Stub, Request, google::protobuf::Empty>(*state_->stub, &Service::Stub::name, request, false) \
        .status();                                                                                                  \
  }
SCONCE_CLIENT_DELETE_(DeleteRun, checkpoints, v1::CheckpointService, v1::DeleteRunRequest)
SCONCE_CLIENT_DELETE_(DeleteCheckpoint, checkpoints, v1::CheckpointService, v1::DeleteCheckpointRequest)
SCONCE_CLIENT_DELETE_(DeleteAlias, checkpoints, v1::CheckpointService, v1::DeleteAliasRequest)
SCONCE_CLIENT_DELETE_(DeleteModule, checkpoints, v1::CheckpointService, v1::DeleteModuleRequest)
SCONCE_CLIENT_DELETE_(UndeployModel, models, v1::ModelService, v1::UndeployModelRequest)
#undef SCONCE_CLIENT_DELETE_

absl::StatusOr<v1::VerifyResponse> Client::Verify(const v1::VerifyRequest& request, const Progress& progress) {
  grpc::ClientContext context;  // no deadline: it takes as long as there are bytes
  const auto stream = state_->admin->Verify(&context, request);
  v1::VerifyResponse message, result;
  while (stream->Read(&message)) {
    if (progress) progress(message.verified_bytes(), message.total_bytes());
    message.mutable_quarantined()->MergeFrom(result.quarantined());
    result.Swap(&message);
  }
  SCONCE_RETURN_IF_ERROR(wire::FromGrpcStatus(stream->Finish()));
  return result;
}

absl::Status Client::CheckHealth(absl::string_view service) {
  health::Health::Stub stub(state_->connection.channel());
  health::HealthCheckRequest request;
  request.set_service(std::string(service));
  grpc::ClientContext context;  // one try: whoever asks wants to know how it is now
  context.set_deadline(absl::ToChronoTime(absl::Now() + state_->connection.options().timeout));
  health::HealthCheckResponse response;
  SCONCE_RETURN_IF_ERROR(wire::FromGrpcStatus(stub.Check(&context, request, &response)));
  if (response.status() == health::HealthCheckResponse::SERVING) return absl::OkStatus();
  return MakeError(Reason::SERVER_DRAINING,
                   absl::StrCat("the server answers, but says ",
                                health::HealthCheckResponse::ServingStatus_Name(response.status())));
}

}  // namespace sconce::client
