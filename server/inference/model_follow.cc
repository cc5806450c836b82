// How the versions of a deployment come and go. Follow(), on a thread of the pool, for one deployment at a time:
//
//   1. resolves the selectors (no lock is held);
//   2. asks the policy for the next step, and takes it: a version is unloaded, or takes over, under the lock, in one
//      step; or one is loaded, without the lock, and put beside the others;
//   3. goes back to 1 until the policy has nothing left to do.
//
// What changes meanwhile (a run, the deployment) makes the deployment due again, and the next round sees it.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/inference/model_state.h"

namespace sconce::inference {
namespace {

constexpr int64_t kOwnWeightsVersion = 1;

// Whether loading the same version again would fail the same way. What the disk, the machine or a crash caused may
// pass, and a damaged chunk heals when it is pushed again.
bool IsFinal(const absl::Status& why) {
  // A worker's memory is the same next time.
  if (HasReason(why, Reason::WORKER_MEMORY_EXCEEDED)) return true;
  return why.code() == absl::StatusCode::kFailedPrecondition || why.code() == absl::StatusCode::kInvalidArgument ||
         why.code() == absl::StatusCode::kNotFound;
}

bool IsNumber(const std::string& selector) {
  int64_t number;
  return absl::SimpleAtoi(selector, &number);
}

// True for a deployment whose selectors can come to mean other versions.
bool Follows(const DeploymentSpec& spec) {
  if (!spec.weights.has_value()) return false;
  return !IsNumber(spec.weights->selector) || (spec.canary.has_value() && !IsNumber(spec.canary->selector)) ||
         (!spec.shadow.empty() && !IsNumber(spec.shadow));
}

}  // namespace

void ModelManager::OnRunChanged(const RunId& run) {
  MutexLock lock(&mu_);
  for (const auto& [model, deployment] : deployments_) {
    if (Follows(*deployment->spec) && deployment->spec->weights->run == run) deployment->due = absl::InfinitePast();
  }
  wake_.SignalAll();
}

void ModelManager::Changed() {
  news_ = true;
  wake_.SignalAll();
}

void ModelManager::Schedule() {
  for (;;) {
    bool tell = false;
    {
      MutexLock lock(&mu_);
      while (!stopping_ && !news_) {
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
      if (stopping_) return;
      tell = std::exchange(news_, false);
    }
    MutexLock lock(&listener_mu_);
    if (tell && listener_) listener_();
  }
}

void ModelManager::Follow(const DeploymentPtr& deployment) {
  std::vector<int64_t> skipped;
  while (Step(deployment, skipped)) {
  }
  MutexLock lock(&mu_);
  deployment->busy = false;
  wake_.SignalAll();
}

absl::StatusOr<WantedVersions> ModelManager::Resolve(const DeploymentSpec& spec, std::string& problem) {
  if (!spec.weights.has_value()) return WantedVersions{kOwnWeightsVersion, 0, 0};
  WantedVersions wanted;
  const RunId& run = spec.weights->run;
  wanted.serving = spec.pinned_version;
  if (wanted.serving == 0) {
    SCONCE_ASSIGN_OR_RETURN(wanted.serving, source_.ResolveVersion(run, spec.weights->selector));
  }
  // Without a canary or a shadow the model is served all the same.
  const auto beside = [&](const std::string& role, const std::string& selector) -> int64_t {
    const absl::StatusOr<int64_t> version = source_.ResolveVersion(run, selector);
    if (version.ok()) return *version;
    problem = absl::StrCat(role, ": ", version.status().message());
    return 0;
  };
  if (spec.canary.has_value()) wanted.canary = beside("the canary", spec.canary->selector);
  if (!spec.shadow.empty()) wanted.shadow = beside("the shadow", spec.shadow);
  return wanted;
}

void ModelManager::ForgetRefusals(Deployment& deployment) {
  const WantedVersions& wanted = deployment.wanted;
  for (auto it = deployment.refused.begin(); it != deployment.refused.end();) {
    const int64_t version = it->first;
    const bool matters = version == wanted.serving || version == wanted.canary || version == wanted.shadow ||
                         version == deployment.last_served;
    it = matters ? std::next(it) : deployment.refused.erase(it);
  }
}

VersionAction ModelManager::NextActionOf(const Deployment& deployment, const std::vector<int64_t>& skipped) {
  VersionSnapshot now;
  now.wanted = deployment.wanted;
  now.generation = deployment.generation;
  now.transition = deployment.spec->transition;
  now.keep_previous = deployment.spec->keep_previous;
  now.unloaded = deployment.record.unloaded;
  for (const auto& [id, version] : deployment.loaded) now.loaded.push_back(id);
  now.serving = deployment.serving;
  now.previous = deployment.previous;
  now.last_served = deployment.last_served;
  now.refused = skipped;
  for (const auto& [version, refusal] : deployment.refused) now.refused.push_back(version);
  return NextAction(now);
}

bool ModelManager::Step(const DeploymentPtr& deployment, std::vector<int64_t>& skipped) {
  std::shared_ptr<const DeploymentSpec> spec;
  {
    MutexLock lock(&mu_);
    spec = deployment->spec;
  }
  std::string problem;
  const absl::StatusOr<WantedVersions> wanted = Resolve(*spec, problem);
  std::shared_ptr<const ServingModel> gone;  // dropped without the lock
  std::shared_ptr<Departure> leaving;
  VersionId id;
  {
    MutexLock lock(&mu_);
    if (stopping_ || deployment->removed) return false;
    if (deployment->spec != spec) return true;  // changed meanwhile: resolve again
    if (wanted.ok()) {
      deployment->wanted = *wanted;
      ForgetRefusals(*deployment);
    } else if (!deployment->record.unloaded) {
      MarkRefused(*deployment, 0, wanted.status());
    }
    const VersionAction action = NextActionOf(*deployment, skipped);
    id = action.which;
    if (action.kind == VersionAction::kNothing) {
      if (wanted.ok() && skipped.empty() && deployment->serving == VersionId{wanted->serving, deployment->generation} &&
          deployment->refused.count(wanted->canary) + deployment->refused.count(wanted->shadow) == 0) {
        deployment->reason = problem;
      }
      return false;
    }
    if (action.kind == VersionAction::kUnload) {
      gone = Unload(*deployment, id);
      if (gone != nullptr && spec->transition == Transition::kResourcePreserving) deployment->leaving = gone->departure;
      return true;
    }
    if (action.kind == VersionAction::kPromote) {
      Promote(*deployment, id);
      // What it replaced goes in the same step, unless it is kept: nobody ever sees both without a reason.
      const VersionAction next = NextActionOf(*deployment, skipped);
      if (next.kind == VersionAction::kUnload) gone = Unload(*deployment, next.which);
      return true;
    }
    deployment->loading = id;
    deployment->loading_since = absl::Now();
    leaving = deployment->leaving;
    Changed();
  }
  if (leaving != nullptr) leaving->Wait();  // for its last request, and for its memory
  absl::StatusOr<std::shared_ptr<const ServingModel>> loaded = loader_.Load(deployment->model, spec, id.version);
  MutexLock lock(&mu_);
  deployment->loading = {};
  deployment->leaving = nullptr;
  Changed();
  if (deployment->removed || stopping_) return false;
  if (loaded.ok()) {
    deployment->loaded[id] = {*loaded, absl::Now()};
    deployment->refused.erase(id.version);
    deployment->backoff = absl::ZeroDuration();
  } else if (id.generation == deployment->generation) {
    skipped.push_back(id.version);
    MarkRefused(*deployment, id.version, loaded.status());
  }
  return true;
}

void ModelManager::Promote(Deployment& deployment, const VersionId& id) {
  if (deployment.last_served != id.version && deployment.last_served != 0) deployment.before = deployment.last_served;
  deployment.previous = deployment.serving;
  deployment.serving = id;
  deployment.last_served = id.version;
  deployment.loaded.at(id).since = absl::Now();
  deployment.refused.erase(id.version);
  deployment.reason.clear();
  deployment.backoff = absl::ZeroDuration();
  Log(Severity::kInfo, "model_ready", {{"model", deployment.model}, {"version", id.version}});
  Changed();
}

std::shared_ptr<const ServingModel> ModelManager::Unload(Deployment& deployment, const VersionId& id) {
  const auto found = deployment.loaded.find(id);
  if (found == deployment.loaded.end()) return nullptr;
  std::shared_ptr<const ServingModel> gone = std::move(found->second.serving);
  deployment.loaded.erase(found);
  if (deployment.serving == id) deployment.serving = {};
  if (deployment.previous == id) deployment.previous = {};
  Log(Severity::kInfo, "model_unloaded", {{"model", deployment.model}, {"version", id.version}});
  Changed();
  return gone;
}

void ModelManager::MarkRefused(Deployment& deployment, int64_t version, const absl::Status& why) {
  const std::string message(why.message().data(), why.message().size());
  deployment.reason = version == 0 ? message : absl::StrCat("version ", version, ": ", message);
  if (version != 0 && IsFinal(why)) {
    deployment.refused[version] = {why, absl::Now()};
  } else if (version != 0 || deployment.serving.version == 0) {
    ScheduleRetry(deployment);
  }
  Log(Severity::kWarn, "model_version_refused",
      {{"model", deployment.model}, {"version", version}, {"reason", deployment.reason}});
  Changed();
}

void ModelManager::ScheduleRetry(Deployment& deployment) {
  deployment.backoff = std::min(std::max(deployment.backoff * 2, options_.retry_backoff), options_.max_retry_backoff);
  deployment.due = std::min(deployment.due, absl::Now() + deployment.backoff);
}

}  // namespace sconce::inference
