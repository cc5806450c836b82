#ifndef SCONCE_TESTS_UNIT_SERVER_INFERENCE_MODEL_MANAGER_FIXTURE_H_
#define SCONCE_TESTS_UNIT_SERVER_INFERENCE_MODEL_MANAGER_FIXTURE_H_

#include <string>
#include <thread>

#include "server/inference/model_manager.h"
#include "tests/contract/runtime_contract.h"
#include "tests/support/fake_runtime.h"
#include "tests/support/manual_model.h"
#include "tests/support/status_matchers.h"

namespace sconce::inference {

inline DeploymentSpec Following(const std::string& selector) {
  DeploymentSpec spec;
  spec.module_run = {"p", "r"};
  spec.module = "m";
  spec.weights = WeightsRef{{"p", "r"}, selector, "/model"};
  return spec;
}

// What the model gives for x = 1: the version of the weights it serves.
inline absl::StatusOr<float> Ask(const ServingModel& serving) {
  const InferResult result = Ask(*serving.loaded, {FloatTensor({1}, {1})});
  if (!result.ok()) return result.status();
  return FloatsOf((*result)[0])[0];
}

class ModelManagerTest : public ::testing::Test {
 protected:
  ModelManagerTest() { options_.retry_backoff = absl::Milliseconds(1); }

  // Waits for a state of the deployment: what it waits for happens on other threads.
  template <typename Condition>
  DeploymentStatus Await(ModelManager& manager, Condition condition) {
    const absl::Time give_up = absl::Now() + absl::Seconds(30);
    for (;;) {
      const auto status = manager.Get("net");
      if (status.ok() && condition(*status)) return *status;
      if (absl::Now() > give_up) {
        ADD_FAILURE() << "waited in vain; reason: " << (status.ok() ? status->reason : status.status().ToString());
        return DeploymentStatus{};
      }
      std::this_thread::yield();
    }
  }
  DeploymentStatus AwaitVersion(ModelManager& manager, int64_t version) {
    return Await(manager, [version](const DeploymentStatus& status) {
      return !status.versions.empty() && status.versions[0].version == version &&
             status.versions[0].role == VersionRole::kServing;
    });
  }

  // What is unloaded is gone a moment after it is not served any more.
  static void AwaitAlive(const FakeRuntime& runtime, int count) {
    const absl::Time give_up = absl::Now() + absl::Seconds(30);
    while (runtime.alive() != count && absl::Now() < give_up) std::this_thread::yield();
    EXPECT_EQ(runtime.alive(), count);
  }

  ModelManagerOptions options_;
  FakeWeightSource source_;
  FakeRuntime runtime_;
};

}  // namespace sconce::inference

#endif  // SCONCE_TESTS_UNIT_SERVER_INFERENCE_MODEL_MANAGER_FIXTURE_H_
