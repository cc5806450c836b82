// Which version answers, and what a deployment looks like from outside.
#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/model_state.h"

namespace sconce::inference {
namespace {

// The number in `version`; 0 for "".
absl::StatusOr<int64_t> ParseVersion(const std::string& version) {
  int64_t number = 0;
  if (version.empty()) return number;
  if (absl::SimpleAtoi(version, &number) && number > 0 && version[0] != '+') return number;
  return MakeError(Reason::MODEL_INPUT_INVALID,
                   absl::StrCat("failed to get model version from specified version string '", version,
                                "': leave it empty or give a number"));
}

// A different one for every request, so that those without an id are spread as the weight says.
std::string ChanceId() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrCat(random());
}

}  // namespace

absl::StatusOr<Routed> ModelManager::Route(const std::string& model, const VersionRequest& request) const {
  SCONCE_ASSIGN_OR_RETURN(const int64_t exact, ParseVersion(request.version));
  MutexLock lock(&mu_);
  SCONCE_ASSIGN_OR_RETURN(const DeploymentPtr deployment, Find(model));
  const auto find = [&](int64_t version) -> std::shared_ptr<const ServingModel> {
    // The newest generation of it.
    std::shared_ptr<const ServingModel> found;
    for (const auto& [id, loaded] : deployment->loaded) {
      if (id.version == version) found = loaded.serving;
    }
    return found;
  };
  Routed routed;
  if (exact != 0) {
    routed.serving =
        deployment->serving.version == exact ? deployment->loaded.at(deployment->serving).serving : find(exact);
    if (routed.serving != nullptr) return routed;
    if (deployment->loading.version == exact) return VersionNotReady(model, request.version);
    return NoSuchVersion(model, exact);
  }
  if (deployment->serving.version == 0) {
    const std::string& why = deployment->reason;
    return MakeError(Reason::MODEL_NOT_READY, absl::StrCat("'", model, "' is not at ready state: ",
                                                           deployment->record.unloaded ? "it is unloaded"
                                                           : why.empty()               ? "it is loading"
                                                                                       : why));
  }
  routed.serving = deployment->loaded.at(deployment->serving).serving;
  const std::optional<Canary>& canary = deployment->spec->canary;
  const int64_t canary_version = canary.has_value() ? deployment->wanted.canary : 0;
  const auto candidate = deployment->loaded.find({canary_version, deployment->generation});
  if (canary_version != 0 && candidate != deployment->loaded.end() &&
      GoesToCanary(model, request.request_id.empty() ? ChanceId() : request.request_id, canary->weight)) {
    routed.serving = candidate->second.serving;
  }
  if (routed.serving->version < request.min_version) {
    // Whatever is loaded and new enough, the oldest of it: versions are asked for by number, roles come second.
    const auto newer = std::find_if(deployment->loaded.begin(), deployment->loaded.end(),
                                    [&](const auto& item) { return item.first.version >= request.min_version; });
    if (newer == deployment->loaded.end()) return VersionNotReady(model, absl::StrCat(">= ", request.min_version));
    routed.serving = newer->second.serving;
  }
  const auto shadow = deployment->loaded.find({deployment->wanted.shadow, deployment->generation});
  const bool has_shadow = !deployment->spec->shadow.empty() && shadow != deployment->loaded.end();
  if (has_shadow && shadow->second.serving != routed.serving) routed.shadow = shadow->second.serving;
  return routed;
}

absl::StatusOr<std::shared_ptr<const ServingModel>> ModelManager::Acquire(const std::string& model,
                                                                          const std::string& version) const {
  SCONCE_ASSIGN_OR_RETURN(const int64_t exact, ParseVersion(version));
  if (exact == 0) {
    MutexLock lock(&mu_);
    const auto it = deployments_.find(model);
    if (it != deployments_.end() && it->second->serving.version != 0) {
      return it->second->loaded.at(it->second->serving).serving;
    }
  }
  SCONCE_ASSIGN_OR_RETURN(Routed routed, Route(model, VersionRequest{version, 0, ""}));
  return std::move(routed.serving);
}

std::vector<std::shared_ptr<const ServingModel>> ModelManager::Loaded() const {
  MutexLock lock(&mu_);
  std::vector<std::shared_ptr<const ServingModel>> all;
  for (const auto& [model, deployment] : deployments_) {
    for (const auto& [id, version] : deployment->loaded) all.push_back(version.serving);
  }
  return all;
}

bool ModelManager::Serves(const RunId& run, int64_t version) const {
  MutexLock lock(&mu_);
  const std::string number = absl::StrCat(version);
  return std::any_of(deployments_.begin(), deployments_.end(), [&](const auto& item) {
    const Deployment& deployment = *item.second;
    const DeploymentSpec& spec = *deployment.spec;
    if (!spec.weights.has_value() || !(spec.weights->run == run)) return false;
    // One that names its version needs it also before it has loaded it, as after a restart.
    if (spec.weights->selector == number || spec.pinned_version == version || spec.shadow == number) return true;
    if (spec.canary.has_value() && spec.canary->selector == number) return true;
    return deployment.loading.version == version ||
           std::any_of(deployment.loaded.begin(), deployment.loaded.end(),
                       [&](const auto& loaded) { return loaded.first.version == version; });
  });
}

DeploymentStatus ModelManager::StatusOf(const Deployment& deployment) {
  DeploymentStatus status;
  status.model = deployment.model;
  status.spec = deployment.record.spec;
  status.reason = deployment.reason;
  status.create_time = deployment.record.create_time;
  status.etag = deployment.etag;
  status.state = deployment.serving.version != 0 ? ModelState::kReady
                 : deployment.record.unloaded    ? ModelState::kUnloaded
                 : deployment.reason.empty()     ? ModelState::kLoading
                                                 : ModelState::kFailed;
  const auto role_of = [&](const VersionId& id) {
    if (id == deployment.serving) return VersionRole::kServing;
    if (id.version == deployment.wanted.canary) return VersionRole::kCanary;
    if (id.version == deployment.wanted.shadow) return VersionRole::kShadow;
    return id == deployment.previous ? VersionRole::kPrevious : VersionRole::kNone;
  };
  for (const auto& [id, version] : deployment.loaded) {
    VersionStatus shown{id.version, ModelState::kReady, "", version.since, role_of(id), version.serving->note};
    const std::string unbatched = version.serving->loaded->unbatched_reason();
    if (!unbatched.empty()) absl::StrAppend(&shown.note, shown.note.empty() ? "" : "; ", "not batched: ", unbatched);
    const bool first = id == deployment.serving;
    status.versions.insert(first ? status.versions.begin() : status.versions.end(), std::move(shown));
  }
  if (deployment.loading.version != 0) {
    status.versions.push_back(
        {deployment.loading.version, ModelState::kLoading, "", deployment.loading_since, VersionRole::kNone, ""});
  }
  for (const auto& [version, refusal] : deployment.refused) {
    status.versions.push_back(
        {version, ModelState::kFailed, std::string(refusal.why.message()), refusal.since, VersionRole::kNone, ""});
  }
  return status;
}

}  // namespace sconce::inference
