#include "server/inference/model_manager.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/inference/version_policy.h"

namespace sconce::inference {
namespace {

constexpr int64_t kOwnWeightsVersion = 1;

absl::Status UnknownModel(const std::string& model) {
  return MakeError(Reason::MODEL_NOT_FOUND, absl::StrCat("Request for unknown model: '", model, "' is not found"),
                   {{"model", model}});
}

// Whether loading the same version again would fail the same way. What the disk, the machine or a crash caused may
// pass, and a damaged chunk heals when it is pushed again.
bool IsFinal(const absl::Status& why) {
  return why.code() == absl::StatusCode::kFailedPrecondition || why.code() == absl::StatusCode::kInvalidArgument ||
         why.code() == absl::StatusCode::kNotFound;
}

absl::Status RenameEntries(const format::KeyRules& rules, StateDict& weights) {
  if (rules.empty()) return absl::OkStatus();
  std::vector<std::string> keys;
  for (const StateEntry& entry : weights.entries) keys.push_back(entry.name);
  SCONCE_ASSIGN_OR_RETURN(keys, format::ApplyKeyRules(rules, keys));
  for (size_t i = 0; i < keys.size(); ++i) weights.entries[i].name = std::move(keys[i]);
  return absl::OkStatus();
}

// True for a selector that can come to mean another version.
bool Follows(const DeploymentSpec& spec) {
  int64_t number;
  return spec.weights.has_value() && !absl::SimpleAtoi(spec.weights->selector, &number);
}

}  // namespace

struct ModelManager::Deployment {
  DeploymentRecord record;
  std::string model;
  std::string etag;
  bool deploying = false;  // by an operator who waits; following starts afterwards
  bool removed = false;
  bool busy = false;                            // a thread of the pool is at it
  absl::Time due = absl::InfiniteFuture();      // when to look at it again
  absl::Duration backoff;                       // before the next retry
  std::shared_ptr<const ServingModel> serving;  // null: none
  absl::Time serving_since;
  int64_t loading = 0, refused = 0;
  absl::Time loading_since, refused_since;
  std::string reason;
};

ModelManager::ModelManager(const ModelManagerOptions& options, WeightSource& source, ModelRuntime& runtime)
    : options_(options),
      source_(source),
      runtime_(runtime),
      batch_timer_(std::make_shared<BatchTimer>()),
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
    deployment->record = *std::move(record);
    deployment->model = model;
    deployment->etag = Xxh3(AsBytes(bytes)).Hex();
    deployment->due = absl::InfinitePast();
    deployments_.emplace(model, std::move(deployment));
  }
  wake_.SignalAll();
  return absl::OkStatus();
}

absl::StatusOr<DeploymentStatus> ModelManager::Deploy(const std::string& model, const DeploymentSpec& spec,
                                                      const std::string& request_id) {
  auto deployment = std::make_shared<Deployment>();
  deployment->model = model;
  // The record keeps microseconds: what is shown now and after a restart is the same.
  deployment->record = {spec, request_id, absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()))};
  const std::string bytes = EncodeDeployment(deployment->record);
  deployment->etag = Xxh3(AsBytes(bytes)).Hex();
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
  }
  // From here on an error takes the deployment away again.
  auto forget = absl::MakeCleanup([&] {
    MutexLock lock(&mu_);
    deployments_.erase(model);
  });
  SCONCE_ASSIGN_OR_RETURN(const int64_t version, Resolve(spec));
  {
    MutexLock lock(&mu_);
    deployment->loading = version;
    deployment->loading_since = absl::Now();
  }
  SCONCE_ASSIGN_OR_RETURN(std::shared_ptr<const ServingModel> serving, LoadVersion(model, spec, version));
  SCONCE_RETURN_IF_ERROR(source_.CreateDeployment(model, bytes));
  std::move(forget).Cancel();
  MutexLock lock(&mu_);
  MarkServing(*deployment, std::move(serving));
  deployment->deploying = false;
  deployment->due = absl::InfinitePast();  // what the selector means may have changed while it was loading
  wake_.SignalAll();
  return StatusOf(*deployment);
}

absl::Status ModelManager::Undeploy(const std::string& model) {
  {
    MutexLock lock(&mu_);
    const auto it = deployments_.find(model);
    if (it == deployments_.end()) return UnknownModel(model);
    if (it->second->deploying) {
      return MakeError(Reason::MODEL_NOT_READY,
                       absl::StrCat("model '", model, "' is still being deployed; retry when it is ready"));
    }
  }
  SCONCE_RETURN_IF_ERROR(source_.DeleteDeployment(model));
  std::shared_ptr<const ServingModel> last;  // dropped without the lock
  MutexLock lock(&mu_);
  const auto it = deployments_.find(model);
  if (it == deployments_.end()) return absl::OkStatus();
  it->second->removed = true;
  last = std::move(it->second->serving);
  deployments_.erase(it);
  Log(Severity::kInfo, "model_undeployed", {{"model", model}});
  return absl::OkStatus();
}

absl::StatusOr<DeploymentStatus> ModelManager::Get(const std::string& model) const {
  MutexLock lock(&mu_);
  const auto it = deployments_.find(model);
  if (it == deployments_.end()) return UnknownModel(model);
  return StatusOf(*it->second);
}

std::vector<DeploymentStatus> ModelManager::List() const {
  MutexLock lock(&mu_);
  std::vector<DeploymentStatus> all;
  for (const auto& [model, deployment] : deployments_) all.push_back(StatusOf(*deployment));
  return all;
}

absl::StatusOr<std::shared_ptr<const ServingModel>> ModelManager::Acquire(const std::string& model,
                                                                          const std::string& version) const {
  int64_t number = 0;
  if (!version.empty() && (!absl::SimpleAtoi(version, &number) || number <= 0 || version[0] == '+')) {
    return MakeError(Reason::MODEL_INPUT_INVALID,
                     absl::StrCat("failed to get model version from specified version string '", version,
                                  "': leave it empty or give a number"));
  }
  MutexLock lock(&mu_);
  const auto it = deployments_.find(model);
  if (it == deployments_.end()) return UnknownModel(model);
  const Deployment& deployment = *it->second;
  if (number != 0 && (deployment.serving == nullptr || deployment.serving->version != number)) {
    if (deployment.loading == number) {
      return MakeError(Reason::MODEL_NOT_READY,
                       absl::StrCat("'", model, "' version ", number, " is not at ready state"));
    }
    return MakeError(Reason::MODEL_VERSION_NOT_FOUND, absl::StrCat("'", model, "' version ", number, " is not found"),
                     {{"model", model}});
  }
  if (deployment.serving == nullptr) {
    return MakeError(Reason::MODEL_NOT_READY,
                     absl::StrCat("'", model, "' is not at ready state: ",
                                  deployment.reason.empty() ? "it is loading" : deployment.reason));
  }
  return deployment.serving;
}

bool ModelManager::Serves(const RunId& run, int64_t version) const {
  MutexLock lock(&mu_);
  return std::any_of(deployments_.begin(), deployments_.end(), [&](const auto& item) {
    const Deployment& deployment = *item.second;
    const std::optional<WeightsRef>& weights = deployment.record.spec.weights;
    if (!weights.has_value() || !(weights->run == run)) return false;
    // One that names its version needs it also before it has loaded it, as after a restart.
    return weights->selector == absl::StrCat(version) || deployment.loading == version ||
           (deployment.serving != nullptr && deployment.serving->version == version);
  });
}

void ModelManager::OnRunChanged(const RunId& run) {
  MutexLock lock(&mu_);
  for (const auto& [model, deployment] : deployments_) {
    const DeploymentSpec& spec = deployment->record.spec;
    if (Follows(spec) && spec.weights->run == run) deployment->due = absl::InfinitePast();
  }
  wake_.SignalAll();
}

void ModelManager::Schedule() {
  MutexLock lock(&mu_);
  while (!stopping_) {
    absl::Time next = absl::InfiniteFuture();
    const absl::Time now = absl::Now();
    for (const auto& [model, deployment] : deployments_) {
      if (deployment->busy || deployment->deploying) continue;
      if (deployment->due > now) {
        next = std::min(next, deployment->due);
        continue;
      }
      // A full queue only means later: the time stays due, and the next change or retry finds it.
      const bool queued = load_pool_.TrySubmit([this, deployment = deployment] { Follow(deployment); });
      if (!queued) {
        next = std::min(next, now + options_.retry_backoff);
        continue;
      }
      deployment->due = absl::InfiniteFuture();
      deployment->busy = true;
    }
    if (next == absl::InfiniteFuture()) {
      wake_.Wait(&mu_);
    } else {
      wake_.WaitWithTimeout(&mu_, next - absl::Now());
    }
  }
}

void ModelManager::Follow(const std::shared_ptr<Deployment>& deployment) {
  const DeploymentSpec& spec = deployment->record.spec;  // constant
  const absl::StatusOr<int64_t> wanted = Resolve(spec);
  bool load = false;
  {
    MutexLock lock(&mu_);
    if (!stopping_ && !deployment->removed) {
      if (!wanted.ok()) {
        MarkRefused(*deployment, 0, wanted.status());
      } else {
        const int64_t serving = deployment->serving != nullptr ? deployment->serving->version : 0;
        load = NextAction({*wanted, serving, deployment->loading, deployment->refused}) == VersionAction::kLoad;
        if (*wanted == serving) deployment->reason.clear();
      }
    }
    if (!load) {
      deployment->busy = false;
      wake_.SignalAll();
      return;
    }
    deployment->loading = *wanted;
    deployment->loading_since = absl::Now();
  }
  absl::StatusOr<std::shared_ptr<const ServingModel>> loaded = LoadVersion(deployment->model, spec, *wanted);
  std::shared_ptr<const ServingModel> old;  // dropped without the lock, as is `loaded`
  MutexLock lock(&mu_);
  deployment->busy = false;
  deployment->loading = 0;
  wake_.SignalAll();
  if (deployment->removed || stopping_) return;
  if (loaded.ok()) {
    old = deployment->serving;
    MarkServing(*deployment, *loaded);
  } else {
    MarkRefused(*deployment, *wanted, loaded.status());
  }
}

absl::StatusOr<int64_t> ModelManager::Resolve(const DeploymentSpec& spec) {
  if (!spec.weights.has_value()) return kOwnWeightsVersion;
  return source_.ResolveVersion(spec.weights->run, spec.weights->selector);
}

absl::StatusOr<std::shared_ptr<const ServingModel>> ModelManager::LoadVersion(const std::string& model,
                                                                              const DeploymentSpec& spec,
                                                                              int64_t version) {
  ModelSpec wanted;
  wanted.name = model;
  wanted.device = spec.device;
  SCONCE_ASSIGN_OR_RETURN(wanted.module, source_.OpenModule(spec.module_run, spec.module));
  if (spec.weights.has_value()) {
    SCONCE_ASSIGN_OR_RETURN(wanted.weights, source_.OpenWeights(spec.weights->run, version, spec.weights->path));
    SCONCE_RETURN_IF_ERROR(RenameEntries(spec.weights->rules, *wanted.weights));
    wanted.match = spec.weights->match;
  }
  SCONCE_ASSIGN_OR_RETURN(std::shared_ptr<LoadedModel> loaded, runtime_.Load(wanted));
  BatcherOptions batching;
  batching.model = model;
  batching.timer = batch_timer_;
  return std::make_shared<const ServingModel>(
      ServingModel{model, version, Batcher::Make(batching, {std::move(loaded)})});
}

void ModelManager::MarkServing(Deployment& deployment, std::shared_ptr<const ServingModel> serving) {
  deployment.serving = std::move(serving);
  deployment.serving_since = absl::Now();
  deployment.loading = 0;
  deployment.refused = 0;
  deployment.reason.clear();
  deployment.backoff = absl::ZeroDuration();
  Log(Severity::kInfo, "model_ready", {{"model", deployment.model}, {"version", deployment.serving->version}});
}

void ModelManager::MarkRefused(Deployment& deployment, int64_t version, const absl::Status& why) {
  const std::string message(why.message().data(), why.message().size());
  deployment.reason = version == 0 ? message : absl::StrCat("version ", version, ": ", message);
  if (version != 0 && IsFinal(why)) {
    deployment.refused = version;
    deployment.refused_since = absl::Now();
  } else if (version != 0 || deployment.serving == nullptr) {
    ScheduleRetry(deployment);
  }
  Log(Severity::kWarn, "model_version_refused",
      {{"model", deployment.model}, {"version", version}, {"reason", deployment.reason}});
}

void ModelManager::ScheduleRetry(Deployment& deployment) {
  deployment.backoff = std::min(std::max(deployment.backoff * 2, options_.retry_backoff), options_.max_retry_backoff);
  deployment.due = std::min(deployment.due, absl::Now() + deployment.backoff);
}

DeploymentStatus ModelManager::StatusOf(const Deployment& deployment) {
  DeploymentStatus status;
  status.model = deployment.model;
  status.spec = deployment.record.spec;
  status.reason = deployment.reason;
  status.create_time = deployment.record.create_time;
  status.etag = deployment.etag;
  if (deployment.serving != nullptr) {
    status.state = ModelState::kReady;
    status.versions.push_back({deployment.serving->version, ModelState::kReady, "", deployment.serving_since});
  } else {
    status.state = deployment.reason.empty() ? ModelState::kLoading : ModelState::kFailed;
  }
  if (deployment.loading != 0) {
    status.versions.push_back({deployment.loading, ModelState::kLoading, "", deployment.loading_since});
  }
  if (deployment.refused != 0) {
    status.versions.push_back({deployment.refused, ModelState::kFailed, deployment.reason, deployment.refused_since});
  }
  return status;
}

}  // namespace sconce::inference
