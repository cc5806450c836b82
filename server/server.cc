#include "server/server.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/version.h"
#include "proto/wire/limits.h"
#include "server/inference/model_manager.h"
#include "server/inference/worker_runtime.h"
#include "server/observability/metrics_endpoint.h"
#include "server/observability/process_metrics.h"
#include "server/repository_weights.h"
#include "server/rpc/runtime.h"
#include "server/rpc_metrics.h"
#include "server/services/admin_service.h"
#include "server/services/channelz_service.h"
#include "server/services/checkpoint_service.h"
#include "server/services/health_service.h"
#include "server/services/inference_service.h"
#include "server/services/model_service.h"
#include "server/services/model_watch.h"
#include "server/services/reflection_service.h"
#include "server/services/transfer_service.h"
#include "server/services/unknown_method_service.h"
#include "server/services/watch_hub.h"
#include "server/store_metrics.h"
#include "storage/repository/repository.h"

namespace sconce {
namespace {

// What reflection lists and health answers for.
const std::vector<std::string>& ServiceNames() {
  static const auto& names = *new std::vector<std::string>{
      "grpc.channelz.v1.Channelz",           "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
      "inference.GRPCInferenceService",      "sconce.v1.AdminService",
      "sconce.v1.CheckpointService",         "sconce.v1.ModelService",
      "sconce.v1.TransferService",
  };
  return names;
}

// What health answers for besides: NOT_SERVING while anything stored is known to be damaged.
constexpr char kIntegrity[] = "sconce.v1.integrity";

// "127.0.0.1:0" with the port it got.
std::string WithPort(const std::string& address, int port) {
  if (address.compare(0, 5, "unix:") == 0) return address;
  return absl::StrCat(address.substr(0, address.rfind(':') + 1), port);
}

// A deployment that runs the module, or "".
std::string DeploymentOf(const inference::ModelManager& models, const inference::RunId& run,
                         const std::string& module) {
  for (const inference::DeploymentStatus& status : models.List()) {
    if (status.spec.module_run == run && status.spec.module == module) return status.model;
  }
  return "";
}

void SetChannelArguments(grpc::ServerBuilder& builder) {
  // Two servers on one port would share its connections at random.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // A trainer may ping every 10 s, also between calls; one that died is noticed, and its push ended, within 80 s.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // For inference inputs; the wrapper refuses more than 4 MiB elsewhere.
  builder.SetMaxReceiveMessageSize(static_cast<int>(wire::kMaxInferenceMessageBytes));
}

}  // namespace

// In the order they are made; destroyed in the opposite one.
struct Server::Parts {
  ServerConfig config;
  std::unique_ptr<repository::Repository> repository;
  std::unique_ptr<RepositoryWeights> weights;
  std::unique_ptr<inference::WorkerRuntime> workers;
  std::unique_ptr<inference::ModelManager> models;
  RpcMetrics rpc_metrics;
  std::unique_ptr<rpc::CallRuntime> runtime;
  std::unique_ptr<services::HealthService> health;
  std::unique_ptr<observability::MetricsEndpoint> metrics;
  std::unique_ptr<services::WatchHub> watches;
  std::unique_ptr<services::ModelWatches> model_watches;
  std::vector<std::unique_ptr<grpc::Service>> services;
  std::unique_ptr<grpc::CallbackGenericService> unknown_methods;
  std::unique_ptr<grpc::Server> grpc_server;
  std::vector<std::string> addresses;
  bool drained = false;

  ~Parts() {
    if (repository != nullptr) repository->SetIntegrityListener([](const repository::Integrity&) {});
  }

  absl::Status Listen();
  absl::Status ServeMetrics();
  void WatchIntegrity();
};

absl::Status Server::Parts::ServeMetrics() {
  if (config.metrics_listen.empty()) return absl::OkStatus();
  const auto collect = [this] {
    std::vector<observability::Family> families = StoreMetrics(*repository);
    for (auto more : {rpc_metrics.Collect(), observability::ProcessMetrics()}) {
      families.insert(families.end(), more.begin(), more.end());
    }
    return families;
  };
  SCONCE_ASSIGN_OR_RETURN(metrics, observability::MetricsEndpoint::Start(config.metrics_listen, collect));
  Log(Severity::kInfo, "metrics", {{"address", WithPort(config.metrics_listen, metrics->port())}});
  return absl::OkStatus();
}

// A quarantined version does not make the server unwell: the others are served. A damaged catalog makes the transfers
// so; the rest, and the server as a whole, go on, since some of it can still be read and a restart does not help.
void Server::Parts::WatchIntegrity() {
  repository->SetIntegrityListener([this](const repository::Integrity& state) {
    health->SetHealthy(kIntegrity, state.quarantined == 0 && state.damaged_footers == 0 && !state.catalog_corrupt);
    health->SetHealthy("sconce.v1.TransferService", !state.catalog_corrupt);
  });
}

absl::Status Server::Parts::Listen() {
  grpc::ServerBuilder builder;
  SetChannelArguments(builder);
  // One number for each address, set by BuildAndStart; never moved meanwhile.
  std::vector<int> ports(config.listen.size(), 0);
  for (size_t i = 0; i < config.listen.size(); ++i) {
    builder.AddListeningPort(config.listen[i], grpc::InsecureServerCredentials(), &ports[i]);
    if (!IsLocalAddress(config.listen[i])) {
      Log(Severity::kWarn, "listen_public",
          {{"address", config.listen[i]},
           {"message",
            "whoever reaches this address can read, write and delete everything: there is no authentication yet"}});
    }
  }
  builder.RegisterService(health->service());
  for (const auto& service : services) builder.RegisterService(service.get());
  builder.RegisterCallbackGenericService(unknown_methods.get());
  grpc_server = builder.BuildAndStart();
  for (size_t i = 0; i < ports.size(); ++i) {
    if (grpc_server != nullptr && ports[i] != 0) continue;
    if (grpc_server == nullptr && ports[i] != 0 && i + 1 < ports.size()) continue;  // the culprit comes later
    return MakeError(
        Reason::ADDRESS_UNAVAILABLE,
        absl::StrCat("cannot listen on ", config.listen[i],
                     ": another program has it, or it is not of this machine; free it or give another --listen"),
        {{"address", config.listen[i]}});
  }
  for (size_t i = 0; i < ports.size(); ++i) addresses.push_back(WithPort(config.listen[i], ports[i]));
  return absl::OkStatus();
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerConfig& config) {
  auto parts = std::make_unique<Parts>();
  parts->config = config;

  repository::RepositoryOptions storage;
  storage.data_dir = config.data_dir;
  if (!config.backup_dir.empty()) {
    // Without a slash at the end, as clients' absolute paths are compared with it.
    storage.backup_dir = std::filesystem::absolute(config.backup_dir + "/x").lexically_normal().parent_path();
  }
  storage.ingest_threads = config.ingest_threads;
  storage.min_free_bytes = config.min_free_bytes;
  storage.compact_bytes_per_second = config.compact_bytes_per_second;
  storage.upload_ttl = config.upload_ttl;
  storage.scrub_bytes_per_second = config.scrub_bytes_per_second;
  storage.change_log_entries = config.change_log_entries;
  storage.change_log_age = config.change_log_age;
  SCONCE_ASSIGN_OR_RETURN(parts->repository, repository::Repository::Open(storage));

  parts->weights = std::make_unique<RepositoryWeights>(*parts->repository);
  inference::WorkerOptions workers;
  workers.program = config.worker;
  workers.memory_bytes = config.worker_memory_limit;
  workers.run_timeout = config.worker_timeout;
  parts->workers = std::make_unique<inference::WorkerRuntime>(workers);
  parts->models =
      std::make_unique<inference::ModelManager>(inference::ModelManagerOptions{}, *parts->weights, *parts->workers);

  rpc::RuntimeOptions calls;
  calls.unary_threads = config.unary_threads;
  calls.stream_threads = config.stream_threads;
  calls.observer = &parts->rpc_metrics;
  parts->runtime = std::make_unique<rpc::CallRuntime>(calls);

  rpc::CallRuntime& runtime = *parts->runtime;
  repository::Repository& repository = *parts->repository;
  std::vector<std::string> names = ServiceNames();
  // Channelz shows who is connected: not to strangers.
  const bool local =
      std::all_of(config.listen.begin(), config.listen.end(), [](const auto& a) { return IsLocalAddress(a); });
  if (!local) names.erase(names.begin());
  std::vector<std::string> healthy = names;
  healthy.emplace_back(kIntegrity);
  parts->health = std::make_unique<services::HealthService>(runtime, healthy);
  parts->WatchIntegrity();
  parts->watches =
      std::make_unique<services::WatchHub>(runtime, repository, services::WatchOptions{config.heartbeat_interval});
  const inference::ModelManager& models = *parts->models;
  parts->services.push_back(services::MakeCheckpointService(
      runtime, repository, *parts->watches, [&models](const repository::RunName& run, const std::string& module) {
        return DeploymentOf(models, {run.project, run.run}, module);
      }));
  parts->services.push_back(services::MakeTransferService(runtime, repository));
  parts->services.push_back(services::MakeAdminService(runtime, repository, kVersion));
  parts->model_watches = std::make_unique<services::ModelWatches>(runtime, *parts->models);
  parts->services.push_back(services::MakeModelService(runtime, *parts->models, *parts->model_watches));
  parts->services.push_back(services::MakeInferenceService(runtime, *parts->models, {kVersion, nullptr}));
  parts->services.push_back(services::MakeReflectionService(runtime, names));
  parts->services.push_back(services::MakeReflectionAlphaService(runtime, names));
  if (local) parts->services.push_back(services::MakeChannelzService(runtime));
  parts->unknown_methods = services::MakeUnknownMethodService(runtime);

  // Models load in the background: the store answers at once.
  SCONCE_RETURN_IF_ERROR(parts->models->Restore());
  repository.StartRetention();  // now that it is known what is deployed
  SCONCE_RETURN_IF_ERROR(parts->Listen());
  SCONCE_RETURN_IF_ERROR(parts->ServeMetrics());
  parts->health->SetServing(true);
  return std::unique_ptr<Server>(new Server(std::move(parts)));
}

Server::~Server() {
  Drain([](absl::Duration) {});
}

const std::vector<std::string>& Server::addresses() const {
  return parts_->addresses;
}

void Server::Drain(const std::function<void(absl::Duration)>& wait) {
  Parts& parts = *parts_;
  if (parts.drained) return;
  parts.drained = true;
  parts.health->SetServing(false);
  if (parts.config.grace_period > absl::ZeroDuration()) wait(parts.config.grace_period);
  parts.runtime->StartDraining();
  parts.health->EndWatches();
  parts.watches->EndWatches();
  parts.model_watches->EndWatches();
  parts.workers->CancelLoads();  // a deployment under way ends now, not after its minute
  parts.grpc_server->Shutdown(std::chrono::system_clock::now() +
                              absl::ToChronoMicroseconds(parts.config.drain_timeout));
  parts.grpc_server->Wait();
  parts.grpc_server.reset();
  parts.metrics.reset();
  parts.services.clear();
  parts.watches.reset();
  parts.model_watches.reset();
  parts.runtime.reset();
  parts.models.reset();
  parts.workers.reset();
  parts.weights.reset();
  parts.repository->SetIntegrityListener([](const repository::Integrity&) {});
  parts.repository.reset();
}

}  // namespace sconce
