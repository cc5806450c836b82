#include "server/inference/worker_runtime.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace sconce::inference {
namespace {

// What callers hold. The supervising thread may be the last to let go of it (from a request's callback), so destroying
// it only asks that thread to stop.
class WorkerHandle final : public LoadedModel {
 public:
  WorkerHandle(std::shared_ptr<WorkerModel> model, ModelSignature signature)
      : model_(std::move(model)), signature_(std::move(signature)) {}
  ~WorkerHandle() override { model_->Stop(MakeError(Reason::MODEL_NOT_READY, "the model was unloaded")); }

  const ModelSignature& signature() const override { return signature_; }
  absl::Status Health() const override { return model_->Health(); }
  int64_t memory_bytes() const override { return model_->memory_bytes(); }
  void BeginServing() override { model_->BeginServing(); }
  void Infer(const std::vector<HostTensor>& inputs, absl::Time deadline, InferDone done) override {
    model_->Infer(inputs, deadline, std::move(done));
  }
  void LendThread(absl::Duration patience) override { model_->LendThread(patience); }

 private:
  const std::shared_ptr<WorkerModel> model_;
  const ModelSignature signature_;
};

absl::Status Draining() {
  return MakeError(Reason::SERVER_DRAINING, "the server is shutting down");
}

// Of the machine, or of the container when that has less.
int64_t MemoryBytes() {
  const int64_t machine = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  int64_t container = 0;
  std::ifstream limit("/sys/fs/cgroup/memory.max");
  return limit >> container && container > 0 ? std::min(machine, container) : machine;
}

WorkerOptions WithDefaults(WorkerOptions options) {
  if (options.program.empty()) {
    std::error_code ignored;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", ignored);
    options.program = (self.parent_path() / "sconce-torch-worker").string();
  }
  if (options.memory_bytes == 0) options.memory_bytes = MemoryBytes() / 2;
  return options;
}

}  // namespace

WorkerRuntime::WorkerRuntime(const WorkerOptions& options) : options_(WithDefaults(options)) {}

WorkerRuntime::~WorkerRuntime() {
  std::vector<Supervised> all;
  {
    MutexLock lock(&mu_);
    cancelled_ = true;
    all.swap(supervised_);
  }
  for (Supervised& one : all) one.model->Stop(Draining());
  for (Supervised& one : all) one.thread.join();
}

absl::StatusOr<std::shared_ptr<LoadedModel>> WorkerRuntime::Load(const ModelSpec& spec) {
  Reap();
  std::shared_ptr<WorkerModel> model;
  {
    MutexLock lock(&mu_);
    if (cancelled_) return Draining();
    auto workers = workers_.lock();
    if (workers == nullptr)
      workers_ = workers = std::make_shared<WorkerTemplate>(options_.program, options_.gives_way_for);
    model = std::make_shared<WorkerModel>(options_, spec, std::move(workers));
    auto ended = std::make_shared<bool>(false);
    std::thread thread([this, model, ended] {
      model->Supervise();
      MutexLock ended_lock(&mu_);
      *ended = true;
    });
    supervised_.push_back({model, std::move(thread), std::move(ended)});
  }
  absl::StatusOr<ModelSignature> signature = model->WaitLoaded();
  if (!signature.ok()) return signature.status();
  return std::make_shared<WorkerHandle>(std::move(model), *std::move(signature));
}

void WorkerRuntime::CancelLoads() {
  MutexLock lock(&mu_);
  cancelled_ = true;
  for (const Supervised& one : supervised_) one.model->CancelLoad(Draining());
}

void WorkerRuntime::Reap() {
  std::vector<Supervised> over;
  {
    MutexLock lock(&mu_);
    for (size_t i = 0; i < supervised_.size();) {
      if (*supervised_[i].ended) {
        over.push_back(std::move(supervised_[i]));
        supervised_[i] = std::move(supervised_.back());
        supervised_.pop_back();
      } else {
        ++i;
      }
    }
  }
  for (Supervised& one : over) one.thread.join();
}

}  // namespace sconce::inference
