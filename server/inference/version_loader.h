#ifndef SCONCE_SERVER_INFERENCE_VERSION_LOADER_H_
#define SCONCE_SERVER_INFERENCE_VERSION_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/inference/batch_timer.h"
#include "server/inference/deployment.h"
#include "server/inference/runtime.h"
#include "server/inference/weight_source.h"

namespace sconce::inference {

// Prepares versions, off the path of requests: fetched, checked, cast, loaded into every instance, warmed up.
// Thread-safe.
class VersionLoader {
 public:
  // `available_memory` tells how many bytes may still be taken. The references outlive this.
  VersionLoader(WeightSource& source, ModelRuntime& runtime, std::function<int64_t()> available_memory);

  // A version that answers. Blocks, for seconds. The errors of WeightSource and ModelRuntime::Load, of renaming and
  // casting; MODEL_MEMORY_EXCEEDED when there is no room for its weights, beside what is loaded already;
  // MODEL_WARM_UP_FAILED. What fails leaves nothing behind.
  absl::StatusOr<std::shared_ptr<const ServingModel>> Load(const std::string& model,
                                                           const std::shared_ptr<const DeploymentSpec>& spec,
                                                           int64_t version);

 private:
  absl::StatusOr<ModelSpec> Fetch(const std::string& model, const DeploymentSpec& spec, int64_t version);

  WeightSource& source_;
  ModelRuntime& runtime_;
  const std::function<int64_t()> available_memory_;
  const std::shared_ptr<BatchTimer> batch_timer_;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_VERSION_LOADER_H_
