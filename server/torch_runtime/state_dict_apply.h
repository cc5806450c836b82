#ifndef SCONCE_SERVER_TORCH_RUNTIME_STATE_DICT_APPLY_H_
#define SCONCE_SERVER_TORCH_RUNTIME_STATE_DICT_APPLY_H_

#include <torch/csrc/jit/api/module.h>

#include <vector>

#include "absl/status/status.h"
#include "server/torch_runtime/weight_match.h"

namespace sconce::torch_runtime {

// load_state_dict for TorchScript, which C++ does not have: gives every parameter and buffer of `module` the weight of
// its name; those without one keep what they have when `policy` is lenient. First all names and shapes are checked;
// MODEL_WEIGHTS_MISMATCH, in the words of PyTorch's own error and in its order, leaves the module as it was. As in
// PyTorch the module's dtype, device and strides win. Where the weight has them already its memory is used as it is,
// not copied. May throw c10::Error.
absl::Status ApplyStateDict(const std::vector<NamedWeight>& weights, const MatchPolicy& policy,
                            torch::jit::Module& module);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_STATE_DICT_APPLY_H_
