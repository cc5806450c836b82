#ifndef SCONCE_SERVER_INFERENCE_WORKER_RUNTIME_H_
#define SCONCE_SERVER_INFERENCE_WORKER_RUNTIME_H_

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "server/inference/runtime.h"
#include "server/inference/worker_model.h"
#include "server/inference/worker_template.h"

namespace sconce::inference {

// Runs each model in a process of its own (docs/adr/0001). Thread-safe.
class WorkerRuntime final : public ModelRuntime {
 public:
  // `options.program` empty: sconce-torch-worker in the folder of the running program.
  explicit WorkerRuntime(const WorkerOptions& options);
  // Ends every worker, and waits until they are gone.
  ~WorkerRuntime() override;

  absl::StatusOr<std::shared_ptr<LoadedModel>> Load(const ModelSpec& spec) override ABSL_LOCKS_EXCLUDED(mu_);
  void CancelLoads() override ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // A model and the thread that supervises it.
  struct Supervised {
    std::shared_ptr<WorkerModel> model;
    std::thread thread;
    std::shared_ptr<bool> ended;  // guarded by mu_
  };

  // Joins the threads of models that were unloaded.
  void Reap() ABSL_LOCKS_EXCLUDED(mu_);

  const WorkerOptions options_;
  Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::weak_ptr<WorkerTemplate> workers_ ABSL_GUARDED_BY(mu_);  // there as long as any model is
  std::vector<Supervised> supervised_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_WORKER_RUNTIME_H_
