#include "server/inference/model_manager.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/inference/memory_room.h"
#include "server/inference/model_state.h"

// What operators ask for. model_follow.cc: how versions come and go. model_route.cc: which of them answers.
namespace sconce::inference {
namespace {

absl::Status CheckKept(const DeploymentSpec& now, const DeploymentSpec& changed) {
  const bool same_module = changed.module_run == now.module_run && changed.module == now.module;
  const bool same_run = changed.weights.has_value() == now.weights.has_value() &&
                        (!now.weights.has_value() || changed.weights->run == now.weights->run);
  if (same_module && same_run) return absl::OkStatus();
  return MakeError(Reason::ARGUMENT_INVALID,
                   absl::StrCat(same_module ? "the run of a deployment's weights" : "the module of a deployment",
                                " never changes, or its version numbers would mean something else; deploy another "
                                "model"));
}

}  // namespace

void ModelManager::Deployment::Take(DeploymentRecord taken, const std::string& bytes) {
  const bool reload = spec != nullptr && !LoadsAlike(*spec, taken.spec);
  record = std::move(taken);
  spec = std::make_shared<const DeploymentSpec>(record.spec);
  etag = Xxh3(AsBytes(bytes)).Hex();
  if (reload) ++generation;
  refused.clear();
  backoff = absl::ZeroDuration();
}

ModelManager::ModelManager(const ModelManagerOptions& options, WeightSource& source, ModelRuntime& runtime)
    : options_(options),
      source_(source),
      runtime_(runtime),
      loader_(
          source, runtime, options.available_memory ? options.available_memory : [] { return AvailableMemoryBytes(); }),
      load_pool_("model-load", options.load_threads, /*queue_limit=*/4096),
      scheduler_([this] { Schedule(); }) {
  source_.SetHooks([this](const RunId& run) { OnRunChanged(run); },
                   [this](const RunId& run, int64_t version) { return Serves(run, version); });
}

ModelManager::~ModelManager() {
  source_.SetHooks(nullptr, nullptr);
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    for (const auto& [model, deployment] : deployments_) {
      if (deployment->leaving != nullptr) deployment->leaving->Cancel();
    }
    wake_.SignalAll();
  }
  runtime_.CancelLoads();
  scheduler_.join();
}

absl::Status ModelManager::Restore() {
  SCONCE_ASSIGN_OR_RETURN(const auto records, source_.ListDeployments());
  MutexLock lock(&mu_);
  for (const auto& [model, bytes] : records) {
    absl::StatusOr<DeploymentRecord> record = DecodeDeployment(bytes);
    if (!record.ok()) {
      Log(Severity::kError, "deployment_unreadable", {{"model", model}, {"reason", record.status().message()}});
      continue;
    }
    auto deployment = std::make_shared<Deployment>();
    deployment->model = model;
    deployment->Take(*std::move(record), bytes);
    deployment->due = absl::InfinitePast();
    deployments_.emplace(model, std::move(deployment));
  }
  Changed();
  return absl::OkStatus();
}

absl::StatusOr<DeploymentStatus> ModelManager::Deploy(const std::string& model, const DeploymentSpec& spec,
                                                      const std::string& request_id, bool validate_only) {
  auto deployment = std::make_shared<Deployment>();
  deployment->model = model;
  // The record keeps microseconds: what is shown now and after a restart is the same.
  const DeploymentRecord record{spec, request_id, absl::FromUnixMicros(absl::ToUnixMicros(absl::Now())), false};
  const std::string bytes = EncodeDeployment(record);
  deployment->Take(record, bytes);
  deployment->deploying = true;
  {
    MutexLock lock(&mu_);
    const auto [there, is_new] = deployments_.emplace(model, deployment);
    if (!is_new) {
      const Deployment& other = *there->second;
      const bool repeated = !request_id.empty() && other.record.request_id == request_id;
      if (repeated && !other.deploying) {
        if (other.record.spec == spec) return StatusOf(other);
        return MakeError(Reason::REQUEST_ID_REUSED,
                         absl::StrCat("request_id ", Quoted(request_id), " was used to deploy '", model,
                                      "' otherwise; use a new one for new work"));
      }
      return MakeError(Reason::MODEL_ALREADY_EXISTS,
                       absl::StrCat("model '", model, "' is deployed already; undeploy it or choose another name"),
                       {{"model", model}});
    }
    Changed();
  }
  // From here on an error takes the deployment away again.
  auto forget = absl::MakeCleanup([&] {
    MutexLock lock(&mu_);
    deployments_.erase(model);
    Changed();
  });
  std::string problem;
  SCONCE_ASSIGN_OR_RETURN(const WantedVersions wanted, Resolve(spec, problem));
  const VersionId id{wanted.serving, deployment->generation};
  {
    MutexLock lock(&mu_);
    deployment->wanted = wanted;
    deployment->loading = id;
    deployment->loading_since = absl::Now();
  }
  SCONCE_ASSIGN_OR_RETURN(std::shared_ptr<const ServingModel> serving,
                          loader_.Load(model, deployment->spec, id.version));
  if (!validate_only) {
    SCONCE_RETURN_IF_ERROR(source_.CreateDeployment(model, bytes));
    std::move(forget).Cancel();
  }
  MutexLock lock(&mu_);
  deployment->loading = {};
  deployment->loaded[id] = {std::move(serving), absl::Now()};
  Promote(*deployment, id);
  deployment->reason = problem;
  deployment->deploying = validate_only;
  deployment->due = absl::InfinitePast();  // what the selectors mean may have changed while it was loading
  return StatusOf(*deployment);
}

absl::StatusOr<ModelManager::DeploymentPtr> ModelManager::Find(const std::string& model) const {
  const auto it = deployments_.find(model);
  if (it == deployments_.end()) return NoSuchModel(model);
  return it->second;
}

absl::StatusOr<ModelManager::DeploymentPtr> ModelManager::BeginChange(const std::string& model,
                                                                      const std::string& etag) {
  MutexLock lock(&mu_);
  SCONCE_ASSIGN_OR_RETURN(DeploymentPtr deployment, Find(model));
  if (deployment->deploying) {
    return MakeError(Reason::MODEL_NOT_READY,
                     absl::StrCat("model '", model, "' is still being deployed; retry when it is ready"));
  }
  if (deployment->changing || (!etag.empty() && etag != deployment->etag)) {
    return MakeError(Reason::ETAG_MISMATCH,
                     absl::StrCat("model '", model, "' was changed meanwhile; read it again and repeat the change"),
                     {{"etag", deployment->etag}});
  }
  deployment->changing = true;
  return deployment;
}

void ModelManager::EndChange(Deployment& deployment) {
  MutexLock lock(&mu_);
  deployment.changing = false;
}

absl::Status ModelManager::Replace(Deployment& deployment, DeploymentRecord record) {
  const std::string bytes = EncodeDeployment(record);
  SCONCE_RETURN_IF_ERROR(source_.ReplaceDeployment(deployment.model, bytes));
  MutexLock lock(&mu_);
  deployment.Take(std::move(record), bytes);
  deployment.due = absl::InfinitePast();
  Changed();
  return absl::OkStatus();
}

absl::StatusOr<DeploymentStatus> ModelManager::Update(const std::string& model, const std::string& etag,
                                                      const Change& change) {
  SCONCE_ASSIGN_OR_RETURN(const DeploymentPtr deployment, BeginChange(model, etag));
  const auto end = absl::MakeCleanup([&] { EndChange(*deployment); });
  // Only whoever changes it writes the record, and that is us.
  DeploymentRecord record = [&] {
    MutexLock lock(&mu_);
    return deployment->record;
  }();
  SCONCE_ASSIGN_OR_RETURN(DeploymentSpec changed, change(record.spec));
  SCONCE_RETURN_IF_ERROR(CheckKept(record.spec, changed));
  if (!(changed == record.spec)) {
    record.spec = std::move(changed);
    SCONCE_RETURN_IF_ERROR(Replace(*deployment, std::move(record)));
  }
  MutexLock lock(&mu_);
  return StatusOf(*deployment);
}

absl::StatusOr<DeploymentStatus> ModelManager::Rollback(const std::string& model, const std::string& etag,
                                                        int64_t version) {
  SCONCE_ASSIGN_OR_RETURN(const DeploymentPtr deployment, BeginChange(model, etag));
  const auto end = absl::MakeCleanup([&] { EndChange(*deployment); });
  DeploymentRecord record;
  std::shared_ptr<const DeploymentSpec> spec;
  VersionId id;
  bool is_loaded = false;
  {
    MutexLock lock(&mu_);
    record = deployment->record;
    spec = deployment->spec;
    if (version == 0) version = deployment->before;
    id = {version, deployment->generation};
    is_loaded = deployment->loaded.count(id) != 0;
  }
  if (version == 0) {
    return MakeError(Reason::MODEL_VERSION_NOT_FOUND,
                     absl::StrCat("model '", model,
                                  "' has served no other version since the server started; name the "
                                  "one to go back to"),
                     {{"model", model}});
  }
  if (!spec->weights.has_value()) return NoSuchVersion(model, version);
  std::shared_ptr<const ServingModel> fresh;
  if (!is_loaded) {
    SCONCE_ASSIGN_OR_RETURN(fresh, loader_.Load(model, spec, version));
  }
  record.spec.pinned_version = version;
  record.unloaded = false;
  SCONCE_RETURN_IF_ERROR(Replace(*deployment, std::move(record)));
  MutexLock lock(&mu_);
  deployment->wanted.serving = version;
  // It may have been unloaded just now, and then Follow loads it: pinning made it due.
  if (fresh != nullptr && deployment->loaded.count(id) == 0) deployment->loaded[id] = {std::move(fresh), absl::Now()};
  if (deployment->loaded.count(id) != 0 && deployment->serving != id) Promote(*deployment, id);
  return StatusOf(*deployment);
}

absl::Status ModelManager::Unload(const std::string& model) {
  SCONCE_ASSIGN_OR_RETURN(const DeploymentPtr deployment, BeginChange(model, ""));
  const auto end = absl::MakeCleanup([&] { EndChange(*deployment); });
  DeploymentRecord record = [&] {
    MutexLock lock(&mu_);
    return deployment->record;
  }();
  record.unloaded = true;
  SCONCE_RETURN_IF_ERROR(Replace(*deployment, std::move(record)));
  std::map<VersionId, Deployment::Version> gone;  // dropped without the lock
  MutexLock lock(&mu_);
  gone.swap(deployment->loaded);
  deployment->serving = deployment->previous = {};
  deployment->reason.clear();
  Log(Severity::kInfo, "model_unloaded", {{"model", model}});
  Changed();
  return absl::OkStatus();
}

absl::Status ModelManager::LoadAgain(const std::string& model) {
  SCONCE_ASSIGN_OR_RETURN(const DeploymentPtr deployment, BeginChange(model, ""));
  {
    const auto end = absl::MakeCleanup([&] { EndChange(*deployment); });
    DeploymentRecord record = [&] {
      MutexLock lock(&mu_);
      deployment->reason.clear();
      return deployment->record;
    }();
    record.unloaded = false;
    SCONCE_RETURN_IF_ERROR(Replace(*deployment, std::move(record)));
  }
  MutexLock lock(&mu_);
  for (;;) {
    if (stopping_) return MakeError(Reason::SERVER_DRAINING, "the server is shutting down");
    if (deployment->removed || deployment->record.unloaded) return VersionNotReady(model, "that was asked for");
    const bool settled = !deployment->busy && deployment->due > absl::Now();
    if (settled && deployment->serving.version != 0) return absl::OkStatus();
    if (settled && !deployment->refused.empty()) return deployment->refused.begin()->second.why;
    if (settled) return MakeError(Reason::MODEL_NOT_READY, absl::StrCat("'", model, "': ", deployment->reason));
    wake_.Wait(&mu_);
  }
}

absl::Status ModelManager::Undeploy(const std::string& model) {
  SCONCE_ASSIGN_OR_RETURN(const DeploymentPtr deployment, BeginChange(model, ""));
  const auto end = absl::MakeCleanup([&] { EndChange(*deployment); });
  SCONCE_RETURN_IF_ERROR(source_.DeleteDeployment(model));
  std::map<VersionId, Deployment::Version> gone;  // dropped without the lock
  MutexLock lock(&mu_);
  deployment->removed = true;
  gone.swap(deployment->loaded);
  deployment->serving = deployment->previous = {};
  deployments_.erase(model);
  Log(Severity::kInfo, "model_undeployed", {{"model", model}});
  Changed();
  return absl::OkStatus();
}

absl::StatusOr<DeploymentStatus> ModelManager::Get(const std::string& model) const {
  MutexLock lock(&mu_);
  SCONCE_ASSIGN_OR_RETURN(const DeploymentPtr deployment, Find(model));
  return StatusOf(*deployment);
}

std::vector<DeploymentStatus> ModelManager::List() const {
  MutexLock lock(&mu_);
  std::vector<DeploymentStatus> all;
  for (const auto& [model, deployment] : deployments_) all.push_back(StatusOf(*deployment));
  return all;
}

void ModelManager::SetListener(std::function<void()> changed) {
  MutexLock lock(&listener_mu_);
  listener_ = std::move(changed);
}

}  // namespace sconce::inference
