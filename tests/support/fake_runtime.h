#ifndef SCONCE_TESTS_SUPPORT_FAKE_RUNTIME_H_
#define SCONCE_TESTS_SUPPORT_FAKE_RUNTIME_H_

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/error.h"
#include "base/mutex.h"
#include "server/inference/runtime.h"
#include "server/inference/weight_source.h"

namespace sconce::inference {

// A runtime without torch. Its "module" is text: "scale" gives forward(x) = x * w for FP32 tensors, where `w` is the
// one element of the weight named "w" (1 without weights); "throws" fails every request; "frozen" is in train mode for
// ever; anything else is no module. Answers come from the thread that asks. Thread-safe.
class FakeRuntime final : public ModelRuntime {
 public:
  absl::StatusOr<std::shared_ptr<LoadedModel>> Load(const ModelSpec& spec) override {
    std::function<void()> before;
    {
      MutexLock lock(&mu_);
      if (cancelled_) return MakeError(Reason::SERVER_DRAINING, "the server is shutting down");
      ++loads_;
      before = before_load_;
    }
    if (before) before();
    if (spec.device != "cpu") return MakeError(Reason::DEVICE_UNAVAILABLE, "only cpu; deploy to cpu");
    const std::string& module = spec.module.inline_bytes;
    if (module == "frozen") return MakeError(Reason::TRAINING_MODE_FROZEN, "aten::dropout has train=True");
    if (module != "scale" && module != "throws") return MakeError(Reason::MODULE_INVALID, "no TorchScript archive");
    float scale = 1;
    if (spec.weights.has_value()) {
      std::string problem;
      for (const StateEntry& entry : spec.weights->entries) {
        if (entry.name != "w" && !spec.match.lenient)
          problem += "\n\tUnexpected key(s) in state_dict: \"" + entry.name + "\". ";
      }
      if (spec.weights->entries.empty()) problem += "\n\tMissing key(s) in state_dict: \"w\". ";
      if (!problem.empty()) {
        return MakeError(Reason::MODEL_WEIGHTS_MISMATCH,
                         "Error(s) in loading state_dict for RecursiveScriptModule:" + problem);
      }
      std::memcpy(&scale, spec.weights->storages[0].inline_bytes.data(), sizeof(scale));
    }
    MutexLock lock(&mu_);
    last_match_ = spec.match;
    ++alive_;
    return std::shared_ptr<LoadedModel>(new FakeModel(*this, scale, module == "throws", spec.presence));
  }

  void CancelLoads() override {
    MutexLock lock(&mu_);
    cancelled_ = true;
  }

  // Runs in every later Load, with no lock held.
  void SetBeforeLoad(std::function<void()> before) {
    MutexLock lock(&mu_);
    before_load_ = std::move(before);
  }
  // Of the last model that was loaded.
  MatchPolicy last_match() const {
    MutexLock lock(&mu_);
    return last_match_;
  }
  int loads() const {
    MutexLock lock(&mu_);
    return loads_;
  }
  // Models loaded and not yet destroyed.
  int alive() const {
    MutexLock lock(&mu_);
    return alive_;
  }

 private:
  class FakeModel final : public LoadedModel {
   public:
    FakeModel(FakeRuntime& runtime, float scale, bool throws, std::shared_ptr<void> presence)
        : presence_(std::move(presence)), runtime_(runtime), scale_(scale), throws_(throws) {
      signature_.inputs.push_back({"x", "Tensor", true});
      signature_.outputs.push_back("OUTPUT__0");
    }
    ~FakeModel() override {
      MutexLock lock(&runtime_.mu_);
      --runtime_.alive_;
    }
    const ModelSignature& signature() const override { return signature_; }
    absl::Status Health() const override { return absl::OkStatus(); }
    void Infer(const std::vector<HostTensor>& inputs, absl::Time deadline, InferDone done) override {
      if (deadline <= absl::Now()) return done(MakeError(Reason::CALL_DEADLINE_EXCEEDED, "too late"));
      if (throws_) return done(MakeError(Reason::MODEL_FAILED, "it throws"));
      if (inputs.size() != 1 || inputs[0].dtype != format::DType::kFloat32) {
        return done(MakeError(Reason::MODEL_FAILED, "expected one FP32 tensor"));
      }
      auto values = std::make_shared<std::vector<float>>(inputs[0].bytes.size() / sizeof(float));
      if (!values->empty()) std::memcpy(values->data(), inputs[0].bytes.data(), inputs[0].bytes.size());
      for (float& value : *values) value *= scale_;
      HostTensor output{"OUTPUT__0", format::DType::kFloat32, inputs[0].shape, {}, values};
      output.bytes = ByteSpan(reinterpret_cast<const uint8_t*>(values->data()), values->size() * sizeof(float));
      done(std::vector<HostTensor>{std::move(output)});
    }

   private:
    const std::shared_ptr<void> presence_;
    FakeRuntime& runtime_;
    const float scale_;
    const bool throws_;
    ModelSignature signature_;
  };

  mutable Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  MatchPolicy last_match_ ABSL_GUARDED_BY(mu_);
  int loads_ ABSL_GUARDED_BY(mu_) = 0;
  int alive_ ABSL_GUARDED_BY(mu_) = 0;
  std::function<void()> before_load_ ABSL_GUARDED_BY(mu_);
};

// Weights in memory for FakeRuntime: one run "p/r" whose version v has the weight w = v, module "m" is "scale" unless
// set otherwise. Thread-safe.
class FakeWeightSource final : public WeightSource {
 public:
  absl::StatusOr<int64_t> ResolveVersion(const RunId&, const std::string& selector) override {
    MutexLock lock(&mu_);
    if (selector.find_first_not_of("0123456789") == std::string::npos) return std::stoll(selector);
    const auto found = selectors_.find(selector);
    if (found == selectors_.end()) return MakeError(Reason::ALIAS_NOT_FOUND, "no alias " + selector);
    return found->second;
  }
  absl::StatusOr<StateDict> OpenWeights(const RunId&, int64_t version, const std::string&,
                                        const format::DtypeCast& cast) override {
    StateDict weights;
    const float w = static_cast<float>(version);
    StateEntry entry;
    {
      MutexLock lock(&mu_);
      if (failures_left_ > 0 && --failures_left_ >= 0) return MakeError(Reason::IO_ERROR, "the disk is tired");
      entry.name = version == bad_version_ ? "other" : "w";
      last_cast_ = cast.dtype;
    }
    entry.view.storage = 0;
    weights.entries.push_back(entry);
    weights.storages.push_back({4, {}, std::string(reinterpret_cast<const char*>(&w), sizeof(w))});
    return weights;
  }
  absl::StatusOr<StoredBytes> OpenModule(const RunId&, const std::string& module) override {
    MutexLock lock(&mu_);
    const auto found = modules_.find(module);
    if (found == modules_.end()) return MakeError(Reason::MODULE_NOT_FOUND, "no module " + module);
    return StoredBytes{static_cast<int64_t>(found->second.size()), {}, found->second};
  }
  absl::Status CreateDeployment(const std::string& model, const std::string& record) override {
    MutexLock lock(&mu_);
    if (!records_.emplace(model, record).second) return MakeError(Reason::MODEL_ALREADY_EXISTS, "there is " + model);
    return absl::OkStatus();
  }
  absl::Status ReplaceDeployment(const std::string& model, const std::string& record) override {
    MutexLock lock(&mu_);
    records_[model] = record;
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ListDeployments() override {
    MutexLock lock(&mu_);
    return std::vector<std::pair<std::string, std::string>>(records_.begin(), records_.end());
  }
  absl::Status DeleteDeployment(const std::string& model) override {
    MutexLock lock(&mu_);
    if (records_.erase(model) == 0) return MakeError(Reason::MODEL_NOT_FOUND, "no " + model);
    return absl::OkStatus();
  }
  void SetHooks(std::function<void(const RunId&)> changed,
                std::function<bool(const RunId&, int64_t version)> serves) override {
    MutexLock lock(&hook_mu_);
    changed_ = std::move(changed);
    serves_ = std::move(serves);
  }

  // Makes `selector` mean `version` and tells the listener.
  void Move(const std::string& selector, int64_t version) {
    {
      MutexLock lock(&mu_);
      selectors_[selector] = version;
    }
    MutexLock lock(&hook_mu_);
    if (changed_) changed_({"p", "r"});
  }
  void SetModule(const std::string& module, const std::string& content) {
    MutexLock lock(&mu_);
    modules_[module] = content;
  }
  // The state_dict of this version has a wrong key.
  void SetBadVersion(int64_t version) {
    MutexLock lock(&mu_);
    bad_version_ = version;
  }
  // The next `count` OpenWeights fail in a way that passes.
  void FailNext(int count) {
    MutexLock lock(&mu_);
    failures_left_ = count;
  }
  std::string last_cast() {
    MutexLock lock(&mu_);
    return last_cast_;
  }
  void SetRecord(const std::string& model, const std::string& record) {
    MutexLock lock(&mu_);
    records_[model] = record;
  }

 private:
  Mutex mu_;
  std::map<std::string, int64_t> selectors_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::string> modules_ ABSL_GUARDED_BY(mu_) = {{"m", "scale"}};
  std::map<std::string, std::string> records_ ABSL_GUARDED_BY(mu_);
  int64_t bad_version_ ABSL_GUARDED_BY(mu_) = 0;
  int failures_left_ ABSL_GUARDED_BY(mu_) = 0;
  std::string last_cast_ ABSL_GUARDED_BY(mu_);
  Mutex hook_mu_;
  std::function<void(const RunId&)> changed_ ABSL_GUARDED_BY(hook_mu_);
  std::function<bool(const RunId&, int64_t)> serves_ ABSL_GUARDED_BY(hook_mu_);
};

}  // namespace sconce::inference

#endif  // SCONCE_TESTS_SUPPORT_FAKE_RUNTIME_H_
