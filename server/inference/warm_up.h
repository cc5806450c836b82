#ifndef SCONCE_SERVER_INFERENCE_WARM_UP_H_
#define SCONCE_SERVER_INFERENCE_WARM_UP_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/inference/deployment.h"
#include "server/inference/runtime.h"

// Running a version before anybody else does: what is slow only once is over then, and what cannot work is refused.
namespace sconce::inference {

// The tensors to warm up with, named as forward()'s arguments: those that the deployment gives, else made up for its
// input specs (dimensions of -1 become 1; floats from [0, 1), always the same for the same `seed`; zeros for the rest).
// Empty, and `why_none` says why, when an argument that forward() needs is in neither.
std::vector<HostTensor> WarmUpInputs(const DeploymentSpec& spec, const ModelSignature& signature, int seed,
                                     std::string& why_none);

// OK when no float of the outputs is NaN or infinite; MODEL_WARM_UP_FAILED naming the output and where in it.
absl::Status CheckFinite(const std::vector<HostTensor>& outputs);

struct WarmUpReport {
  std::string note;              // why there was no warm-up; "": there was
  std::string unbatched_reason;  // why its requests must not be joined; "": they may
};

// Runs `instances` on the warm-up's tensors and checks what they give: MODEL_WARM_UP_FAILED for what throws, has NaN or
// infinities, or is not what the output specs say. Then, when requests are to be joined, runs the tensors with
// companions and compares: a model that answers a row otherwise in company is not served in batches. WORKER_DIED and
// the like when a run did not come to an end. Blocks.
absl::StatusOr<WarmUpReport> RunWarmUp(const DeploymentSpec& spec,
                                       const std::vector<std::shared_ptr<LoadedModel>>& instances);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_WARM_UP_H_
