#ifndef SCONCE_SERVER_INFERENCE_MODEL_MANAGER_H_
#define SCONCE_SERVER_INFERENCE_MODEL_MANAGER_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "server/inference/batcher.h"
#include "server/inference/deployment.h"
#include "server/inference/runtime.h"
#include "server/inference/version_loader.h"
#include "server/inference/weight_source.h"

namespace sconce::inference {

struct ModelManagerOptions {
  int load_threads = 2;                             // versions prepared at once, deployments by an operator not counted
  absl::Duration retry_backoff = absl::Seconds(1);  // after a load that may succeed later; doubles
  absl::Duration max_retry_backoff = absl::Minutes(1);
  std::function<int64_t()> available_memory;  // bytes that may still be taken; empty: what the machine says
};

// What a request asks of a model.
struct VersionRequest {
  std::string version;      // "": what serves; else a number in decimal, exactly that
  int64_t min_version = 0;  // with version "": this one or a newer one; 0: any
  std::string request_id;   // decides whether it goes to the canary; "": by chance
};

struct Routed {
  std::shared_ptr<const ServingModel> serving;
  std::shared_ptr<const ServingModel> shadow;  // to be given the same, its answer dropped; null: none
};

// The deployments: which model serves which version, and how it gets to the next one.
//
// A deployment with selectors follows them: whenever its run changes, they are resolved again, and what they mean is
// prepared and takes its place as version_policy.h says, in one step. Requests under way finish on the version they
// began with, which is unloaded after the last of them. A version that is refused leaves the old one serving, and
// `reason` says why.
//
// Thread-safe. Calls marked "blocks" must not come from a thread that may not. Of two changes of one deployment at a
// time the second is ETAG_MISMATCH.
class ModelManager {
 public:
  using Change = std::function<absl::StatusOr<DeploymentSpec>(const DeploymentSpec& now)>;

  // Borrows `source` and `runtime`, which outlive it. Hooks itself into `source`.
  ModelManager(const ModelManagerOptions& options, WeightSource& source, ModelRuntime& runtime);
  // Ends following and loading, and unhooks itself. Models still held by requests live on.
  ~ModelManager();
  ModelManager(const ModelManager&) = delete;
  ModelManager& operator=(const ModelManager&) = delete;

  // Takes up the deployments written down earlier; they load in the background, LOADING meanwhile. Once, at start. A
  // record that cannot be read is logged and skipped. Blocks.
  absl::Status Restore();

  // Loads and, when it answers, keeps the deployment; after an error nothing of it is kept, and with `validate_only`
  // neither after success. Blocks, for seconds. MODEL_ALREADY_EXISTS, but the same request_id with the same spec
  // answers what there is, and with another spec is REQUEST_ID_REUSED. The errors of VersionLoader::Load.
  absl::StatusOr<DeploymentStatus> Deploy(const std::string& model, const DeploymentSpec& spec,
                                          const std::string& request_id, bool validate_only = false);
  // Changes how it is served and returns when that is written down; versions are then prepared in the background. The
  // module and the run of the weights stay: ARGUMENT_INVALID. An `etag` that is not "" must be the deployment's:
  // ETAG_MISMATCH. MODEL_NOT_FOUND; the errors of `change`. Blocks.
  absl::StatusOr<DeploymentStatus> Update(const std::string& model, const std::string& etag, const Change& change);
  // Serves `version` (0: what served before) and pins it, until an update sets pinned_version to something else. At
  // once when it is loaded; else it is loaded first. MODEL_NOT_FOUND; MODEL_VERSION_NOT_FOUND when it is not known what
  // served before; the errors of VersionLoader::Load, after which nothing has changed. Blocks.
  absl::StatusOr<DeploymentStatus> Rollback(const std::string& model, const std::string& etag, int64_t version);
  // Keeps the deployment but frees its memory, over restarts too; and the opposite, which waits until it answers or
  // fails (then with the reason). MODEL_NOT_FOUND. Block.
  absl::Status Unload(const std::string& model);
  absl::Status LoadAgain(const std::string& model);
  // MODEL_NOT_FOUND; MODEL_NOT_READY while it is still being deployed. Blocks.
  absl::Status Undeploy(const std::string& model);

  // MODEL_NOT_FOUND.
  absl::StatusOr<DeploymentStatus> Get(const std::string& model) const;
  std::vector<DeploymentStatus> List() const;  // by name

  // What should answer a request. MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND, MODEL_NOT_READY; MODEL_INPUT_INVALID for a
  // version that is no number.
  absl::StatusOr<Routed> Route(const std::string& model, const VersionRequest& request) const;
  // The same for questions about a model: never the canary by chance.
  absl::StatusOr<std::shared_ptr<const ServingModel>> Acquire(const std::string& model,
                                                              const std::string& version) const;
  // All versions that are loaded, by model and number.
  std::vector<std::shared_ptr<const ServingModel>> Loaded() const;

  // True while a deployment serves this version, is loading it or names it.
  bool Serves(const RunId& run, int64_t version) const;

  // `changed` runs soon after any deployment changed its state or went, on a thread of the manager's; it must be quick.
  // An empty one ends it: when this returns, the old one does not run any more.
  void SetListener(std::function<void()> changed);

 private:
  struct Deployment;
  using DeploymentPtr = std::shared_ptr<Deployment>;

  absl::StatusOr<DeploymentPtr> Find(const std::string& model) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The deployment, marked as being changed: for one caller at a time.
  absl::StatusOr<DeploymentPtr> BeginChange(const std::string& model, const std::string& etag) ABSL_LOCKS_EXCLUDED(mu_);
  void EndChange(Deployment& deployment) ABSL_LOCKS_EXCLUDED(mu_);
  // Writes the record down, then makes it the deployment's. Between BeginChange and EndChange.
  absl::Status Replace(Deployment& deployment, DeploymentRecord record) ABSL_LOCKS_EXCLUDED(mu_);

  // model_follow.cc: how versions come and go.
  void OnRunChanged(const RunId& run) ABSL_LOCKS_EXCLUDED(mu_);
  // Picks deployments whose time has come and hands them to the pool; tells the listener.
  void Schedule() ABSL_LOCKS_EXCLUDED(mu_);
  // Takes one deployment to what its selectors mean.
  void Follow(const DeploymentPtr& deployment) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<WantedVersions> Resolve(const DeploymentSpec& spec, std::string& problem);
  // One step of Follow; false when there is none. `skipped` could not be loaded just now.
  bool Step(const DeploymentPtr& deployment, std::vector<int64_t>& skipped) ABSL_LOCKS_EXCLUDED(mu_);
  // Those of versions that nobody asks for any more.
  static void ForgetRefusals(Deployment& deployment);
  static VersionAction NextActionOf(const Deployment& deployment, const std::vector<int64_t>& skipped);
  void Promote(Deployment& deployment, const VersionId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes it from the deployment; to be dropped without the lock.
  std::shared_ptr<const ServingModel> Unload(Deployment& deployment, const VersionId& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkRefused(Deployment& deployment, int64_t version, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ScheduleRetry(Deployment& deployment) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Wakes the scheduler, whoever waits for a state, and the listener.
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  static DeploymentStatus StatusOf(const Deployment& deployment);

  const ModelManagerOptions options_;
  WeightSource& source_;
  ModelRuntime& runtime_;
  VersionLoader loader_;

  mutable Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, DeploymentPtr> deployments_ ABSL_GUARDED_BY(mu_);
  bool news_ ABSL_GUARDED_BY(mu_) = false;  // for the listener

  Mutex listener_mu_;  // held while it runs; never together with mu_
  std::function<void()> listener_ ABSL_GUARDED_BY(listener_mu_);

  ThreadPool load_pool_;
  std::thread scheduler_;  // constant after construction
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_MODEL_MANAGER_H_
