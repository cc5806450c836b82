#ifndef SCONCE_SERVER_TORCH_RUNTIME_WEIGHT_MATCH_H_
#define SCONCE_SERVER_TORCH_RUNTIME_WEIGHT_MATCH_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// How the weights of a checkpoint fit what a module wants, whatever kind of module it is: in the words and the order of
// PyTorch's own load_state_dict.
namespace sconce::torch_runtime {

struct NamedWeight {
  std::string name;
  at::Tensor tensor;
};

// How weights have to fit.
struct MatchPolicy {
  bool lenient = false;     // missing and unexpected keys are tolerated, unless nothing matches
  double min_match = 0;     // the share of the module's keys that must match, 0 to 1
  bool take_dtype = false;  // floats of the module become of their weight's dtype, not the other way round
};

using WeightsByName = std::unordered_map<std::string, const NamedWeight*>;

struct Findings {
  struct Pair {
    std::string name;
    at::Tensor target;  // the module's
    at::Tensor weight;  // of the same shape
  };
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> mismatches;
  std::vector<Pair> pairs;
};

WeightsByName IndexByName(const std::vector<NamedWeight>& weights);

// Looks for the weight of the module's tensor `target`, called `name`.
void MatchOne(const std::string& name, const at::Tensor& target, const WeightsByName& weights, Findings& findings);

// OK when that is good enough. MODEL_WEIGHTS_MISMATCH says in what way it is not; `module` is what PyTorch would call
// the module's class, `hint` is added after keys that nobody expected.
absl::Status CheckFindings(const Findings& findings, const MatchPolicy& policy, absl::string_view module,
                           absl::string_view hint);

// Whether `weight` can stand where `target` does: the same dtype, device and strides.
bool CanReplace(const at::Tensor& target, const at::Tensor& weight);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_WEIGHT_MATCH_H_
