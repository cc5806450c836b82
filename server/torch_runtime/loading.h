#ifndef SCONCE_SERVER_TORCH_RUNTIME_LOADING_H_
#define SCONCE_SERVER_TORCH_RUNTIME_LOADING_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "server/torch_runtime/torch_model.h"
#include "server/torch_runtime/weight_match.h"
#include "server/worker_protocol/channel.h"
#include "server/worker_protocol/messages.h"

// What loading and running are made of for every kind of module.
namespace sconce::torch_runtime {

// The weights that `load` brings. IO_ERROR; MODEL_WEIGHTS_MISMATCH for a dtype that this LibTorch has not.
absl::StatusOr<std::vector<NamedWeight>> MakeWeights(const worker::Load& load, const std::vector<UniqueFd>& files,
                                                     const worker::Body& body);

inline MatchPolicy PolicyOf(const worker::Load& load) {
  return {load.lenient, load.min_match, load.take_dtype};
}

// `named` as an answer. MODEL_FAILED for what an answer cannot carry.
absl::StatusOr<Outputs> MakeOutputs(const std::vector<std::pair<std::string, at::Tensor>>& named);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_LOADING_H_
