#ifndef SCONCE_TESTS_SUPPORT_MANUAL_MODEL_H_
#define SCONCE_TESTS_SUPPORT_MANUAL_MODEL_H_

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/mutex.h"
#include "server/inference/runtime.h"

namespace sconce::inference {

// A clock that stands until it is turned. Thread-safe.
class ManualClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(&mu_);
    return now_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(&mu_);
    now_ += by;
  }

 private:
  mutable Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::UnixEpoch();
};

// FP32 tensors for tests: [rows, columns], all values given.
inline HostTensor FloatTensor(format::Dims shape, std::vector<float> values, const std::string& name = "x") {
  auto kept = std::make_shared<std::vector<float>>(std::move(values));
  HostTensor tensor{name, format::DType::kFloat32, std::move(shape), {}, nullptr};
  tensor.bytes = ByteSpan(reinterpret_cast<const uint8_t*>(kept->data()), kept->size() * sizeof(float));
  tensor.owner = std::move(kept);
  return tensor;
}

inline std::vector<float> FloatsOf(const HostTensor& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

// forward(x: Tensor, k: int = 0) -> Tensor
inline ModelSignature ManualSignature() {
  return {{{"x", "Tensor", true}, {"k", "int", false}}, {"OUTPUT__0"}};
}

// A model that answers when the test says so. Each run is kept until Answer. Thread-safe.
class ManualModel final : public LoadedModel {
 public:
  using Forward = std::function<InferResult(const std::vector<HostTensor>&)>;

  explicit ManualModel(Forward forward = Twice) : forward_(std::move(forward)) {}

  static InferResult Twice(const std::vector<HostTensor>& inputs) {
    std::vector<float> values = FloatsOf(inputs[0]);
    for (float& value : values) value *= 2;
    return std::vector<HostTensor>{FloatTensor(inputs[0].shape, std::move(values), "OUTPUT__0")};
  }

  const ModelSignature& signature() const override { return signature_; }
  absl::Status Health() const override {
    MutexLock lock(&mu_);
    return health_;
  }
  void Infer(const std::vector<HostTensor>& inputs, absl::Time, InferDone done) override {
    absl::Status health;
    {
      MutexLock lock(&mu_);
      health = health_;
      if (health.ok()) {
        ++runs_;
        waiting_.push_back({inputs, std::move(done)});
        return;
      }
    }
    done(health);
  }

  void LendThread(absl::Duration patience) override {
    std::function<void()> lent;
    {
      MutexLock lock(&mu_);
      lends_.push_back(patience);
      lent = lent_;
    }
    if (lent) lent();
  }

  // Called by LendThread, with no lock held.
  void SetLent(std::function<void()> lent) {
    MutexLock lock(&mu_);
    lent_ = std::move(lent);
  }
  std::vector<absl::Duration> lends() const {
    MutexLock lock(&mu_);
    return lends_;
  }
  void SetHealth(absl::Status health) {
    MutexLock lock(&mu_);
    health_ = std::move(health);
  }
  // Shapes of the first input of what runs now: at most one, since nothing is handed to a busy instance.
  std::vector<format::Dims> running() const {
    MutexLock lock(&mu_);
    std::vector<format::Dims> shapes;
    for (const Run& run : waiting_) shapes.push_back(run.inputs[0].shape);
    return shapes;
  }
  int runs() const {
    MutexLock lock(&mu_);
    return runs_;
  }
  // Answers what runs with forward, or with `failure`. False when nothing runs.
  bool Answer(const absl::Status& failure = absl::OkStatus()) {
    Run run;
    {
      MutexLock lock(&mu_);
      if (waiting_.empty()) return false;
      run = std::move(waiting_.front());
      waiting_.pop_front();
    }
    run.done(failure.ok() ? forward_(run.inputs) : InferResult(failure));
    return true;
  }

 private:
  struct Run {
    std::vector<HostTensor> inputs;
    InferDone done;
  };

  const Forward forward_;
  const ModelSignature signature_ = ManualSignature();
  mutable Mutex mu_;
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  std::deque<Run> waiting_ ABSL_GUARDED_BY(mu_);
  int runs_ ABSL_GUARDED_BY(mu_) = 0;
  std::function<void()> lent_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::Duration> lends_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::inference

#endif  // SCONCE_TESTS_SUPPORT_MANUAL_MODEL_H_
