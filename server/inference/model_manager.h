#ifndef SCONCE_SERVER_INFERENCE_MODEL_MANAGER_H_
#define SCONCE_SERVER_INFERENCE_MODEL_MANAGER_H_

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "server/inference/deployment.h"
#include "server/inference/runtime.h"
#include "server/inference/weight_source.h"

namespace sconce::inference {

struct ModelManagerOptions {
  int load_threads = 2;                             // versions prepared at once, deployments by an operator not counted
  absl::Duration retry_backoff = absl::Seconds(1);  // after a load that may succeed later; doubles
  absl::Duration max_retry_backoff = absl::Minutes(1);
};

// The deployments: which model serves which version, and how it gets to the next one.
//
// A deployment with a selector follows it: whenever its run changes, the selector is resolved again, and when it means
// another version, that one is loaded beside the one that serves and then takes its place in one step. Requests under
// way finish on the old version, which is unloaded after the last of them. A version that is refused leaves the old one
// serving, and `reason` says why.
//
// Thread-safe. Calls marked "blocks" must not come from a thread that may not.
class ModelManager {
 public:
  // Borrows `source` and `runtime`, which outlive it. Hooks itself into `source`.
  ModelManager(const ModelManagerOptions& options, WeightSource& source, ModelRuntime& runtime);
  // Ends following and loading, and unhooks itself. Models still held by requests live on.
  ~ModelManager();
  ModelManager(const ModelManager&) = delete;
  ModelManager& operator=(const ModelManager&) = delete;

  // Takes up the deployments written down earlier; they load in the background, LOADING meanwhile. Once, at start. A
  // record that cannot be read is logged and skipped. Blocks.
  absl::Status Restore();

  // Loads and, when it answers, keeps the deployment; after an error nothing of it is kept. Blocks, for seconds.
  // MODEL_ALREADY_EXISTS, but the same request_id with the same spec answers what there is, and with another spec is
  // REQUEST_ID_REUSED. The errors of WeightSource and ModelRuntime::Load.
  absl::StatusOr<DeploymentStatus> Deploy(const std::string& model, const DeploymentSpec& spec,
                                          const std::string& request_id);
  // MODEL_NOT_FOUND; MODEL_NOT_READY while it is still being deployed. Blocks.
  absl::Status Undeploy(const std::string& model);

  // MODEL_NOT_FOUND.
  absl::StatusOr<DeploymentStatus> Get(const std::string& model) const;
  std::vector<DeploymentStatus> List() const;  // by name

  // What should answer a request. `version` is "" for the one that serves, else a number in decimal. MODEL_NOT_FOUND,
  // MODEL_VERSION_NOT_FOUND, MODEL_NOT_READY; MODEL_INPUT_INVALID for what is no number.
  absl::StatusOr<std::shared_ptr<const ServingModel>> Acquire(const std::string& model,
                                                              const std::string& version) const;

  // True while a deployment serves or is loading this version.
  bool Serves(const RunId& run, int64_t version) const;

 private:
  struct Deployment;

  void OnRunChanged(const RunId& run) ABSL_LOCKS_EXCLUDED(mu_);
  // Picks deployments whose time has come and hands them to the pool.
  void Schedule() ABSL_LOCKS_EXCLUDED(mu_);
  // One step of following: resolve, and load what the policy says.
  void Follow(const std::shared_ptr<Deployment>& deployment) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<int64_t> Resolve(const DeploymentSpec& spec);
  absl::StatusOr<std::shared_ptr<const ServingModel>> LoadVersion(const std::string& model, const DeploymentSpec& spec,
                                                                  int64_t version);
  void MarkServing(Deployment& deployment, std::shared_ptr<const ServingModel> serving)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkRefused(Deployment& deployment, int64_t version, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ScheduleRetry(Deployment& deployment) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static DeploymentStatus StatusOf(const Deployment& deployment);

  const ModelManagerOptions options_;
  WeightSource& source_;
  ModelRuntime& runtime_;
  const std::shared_ptr<BatchTimer> batch_timer_;

  mutable Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, std::shared_ptr<Deployment>> deployments_ ABSL_GUARDED_BY(mu_);

  ThreadPool load_pool_;
  std::thread scheduler_;  // constant after construction
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_MODEL_MANAGER_H_
