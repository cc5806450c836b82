#include "server/inference/version_loader.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/batcher.h"
#include "server/inference/warm_up.h"

namespace sconce::inference {
namespace {

absl::Status RenameEntries(const format::KeyRules& rules, StateDict& weights) {
  if (rules.empty()) return absl::OkStatus();
  std::vector<std::string> keys;
  for (const StateEntry& entry : weights.entries) keys.push_back(entry.name);
  SCONCE_ASSIGN_OR_RETURN(keys, format::ApplyKeyRules(rules, keys));
  for (size_t i = 0; i < keys.size(); ++i) weights.entries[i].name = std::move(keys[i]);
  return absl::OkStatus();
}

// What a version takes at least: its weights once, since instances share them.
int64_t NeededBytes(const ModelSpec& wanted) {
  int64_t bytes = wanted.module.size_bytes;
  if (wanted.weights.has_value()) {
    for (const StoredBytes& storage : wanted.weights->storages) bytes += storage.size_bytes;
  }
  return bytes;
}

absl::Status CheckRoom(int64_t needed, int64_t available, int64_t version) {
  if (needed <= available) return absl::OkStatus();
  return MakeError(Reason::MODEL_MEMORY_EXCEEDED,
                   absl::StrCat("version ", version, " needs ", needed, " bytes beside what is loaded, and ", available,
                                " are available; give the server more memory, unload a model, or deploy with "
                                "transition RESOURCE_PRESERVING"),
                   {{"needed_bytes", absl::StrCat(needed)}, {"available_bytes", absl::StrCat(available)}});
}

}  // namespace

VersionLoader::VersionLoader(WeightSource& source, ModelRuntime& runtime, std::function<int64_t()> available_memory)
    : source_(source),
      runtime_(runtime),
      available_memory_(std::move(available_memory)),
      batch_timer_(std::make_shared<BatchTimer>()) {}

absl::StatusOr<ModelSpec> VersionLoader::Fetch(const std::string& model, const DeploymentSpec& spec, int64_t version) {
  ModelSpec wanted;
  wanted.name = model;
  wanted.device = spec.device;
  if (spec.instances > 1) {
    wanted.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / spec.instances);
  }
  SCONCE_ASSIGN_OR_RETURN(wanted.module, source_.OpenModule(spec.module_run, spec.module));
  if (!spec.weights.has_value()) return wanted;
  SCONCE_ASSIGN_OR_RETURN(wanted.weights,
                          source_.OpenWeights(spec.weights->run, version, spec.weights->path, spec.cast));
  SCONCE_RETURN_IF_ERROR(RenameEntries(spec.weights->rules, *wanted.weights));
  wanted.match = spec.weights->match;
  wanted.take_dtype = !spec.cast.empty();
  return wanted;
}

absl::StatusOr<std::shared_ptr<const ServingModel>> VersionLoader::Load(
    const std::string& model, const std::shared_ptr<const DeploymentSpec>& spec, int64_t version) {
  SCONCE_ASSIGN_OR_RETURN(ModelSpec wanted, Fetch(model, *spec, version));
  const auto departure = std::make_shared<Departure>();
  wanted.presence = Departure::PresenceOf(departure);
  SCONCE_RETURN_IF_ERROR(CheckRoom(NeededBytes(wanted), available_memory_(), version));
  std::vector<std::shared_ptr<LoadedModel>> instances;
  for (int32_t i = 0; i < spec->instances; ++i) {
    SCONCE_ASSIGN_OR_RETURN(std::shared_ptr<LoadedModel> loaded, runtime_.Load(wanted));
    instances.push_back(std::move(loaded));
  }
  SCONCE_RETURN_IF_ERROR(CheckInputSpecs(spec->inputs, instances[0]->signature()));
  SCONCE_ASSIGN_OR_RETURN(const WarmUpReport warm_up, RunWarmUp(*spec, instances));
  for (const std::shared_ptr<LoadedModel>& instance : instances) instance->BeginServing();
  BatcherOptions batching;
  batching.model = model;
  batching.policy = spec->batching;
  batching.timer = batch_timer_;
  batching.unbatched_reason = warm_up.unbatched_reason;
  return std::make_shared<const ServingModel>(
      ServingModel{model, version, Batcher::Make(batching, std::move(instances)), spec, warm_up.note, departure});
}

}  // namespace sconce::inference
