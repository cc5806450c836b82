#include "server/torch_runtime/state_dict_apply.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/torch_runtime/tensor_bridge.h"

namespace sconce::torch_runtime {
namespace {

using WeightsByName = std::unordered_map<std::string, const NamedWeight*>;

// What PyTorch's load_state_dict would find, in the order in which it finds it.
struct Findings {
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> mismatches;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs;  // parameter or buffer, weight
};

std::string Prefix(const std::string& module_name) {
  return module_name.empty() ? "" : module_name + ".";
}

// A parameter without dimensions takes a weight of one element in one dimension, which old releases saved.
bool IsScalarFromOldRelease(const at::Tensor& target, const at::Tensor& weight) {
  return target.dim() == 0 && weight.dim() == 1 && weight.size(0) == 1;
}

void MatchOne(const std::string& name, const at::Tensor& target, const WeightsByName& by_name, Findings& findings) {
  const auto found = by_name.find(name);
  if (found == by_name.end()) {
    findings.missing.push_back(name);
    return;
  }
  at::Tensor weight = found->second->tensor;
  if (IsScalarFromOldRelease(target, weight)) weight = weight[0];
  if (weight.sizes() != target.sizes()) {
    findings.mismatches.push_back(
        absl::StrCat("size mismatch for ", name, ": copying a param with shape ", SizeText(weight.sizes()),
                     " from checkpoint, the shape in current model is ", SizeText(target.sizes()), "."));
    return;
  }
  findings.pairs.emplace_back(target, weight);
}

// One module's own parameters and buffers, then the keys under its prefix that it does not know.
void MatchModule(const std::string& module_name, const torch::jit::Module& module,
                 const std::vector<NamedWeight>& weights, const WeightsByName& by_name, Findings& findings) {
  const std::string prefix = Prefix(module_name);
  std::unordered_set<std::string> known;
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    known.insert(parameter.name);
    MatchOne(prefix + parameter.name, parameter.value, by_name, findings);
  }
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
    known.insert(buffer.name);
    MatchOne(prefix + buffer.name, buffer.value, by_name, findings);
  }
  for (const auto& child : module.named_children()) known.insert(child.name);
  for (const NamedWeight& weight : weights) {
    if (!absl::StartsWith(weight.name, prefix)) continue;
    const std::string rest = weight.name.substr(prefix.size());
    if (known.count(rest.substr(0, rest.find('.'))) == 0) findings.unexpected.push_back(weight.name);
  }
}

std::string KeyList(absl::string_view what, const std::vector<std::string>& keys) {
  return absl::StrCat("\n\t", what, " key(s) in state_dict: \"", absl::StrJoin(keys, "\", \""), "\". ");
}

absl::Status ToStatus(const Findings& findings, bool lenient) {
  std::string message;
  if (!lenient && !findings.missing.empty()) message += KeyList("Missing", findings.missing);
  if (!lenient && !findings.unexpected.empty()) message += KeyList("Unexpected", findings.unexpected);
  for (const std::string& mismatch : findings.mismatches) absl::StrAppend(&message, "\n\t", mismatch);
  if (message.empty()) return absl::OkStatus();
  return MakeError(Reason::MODEL_WEIGHTS_MISMATCH,
                   absl::StrCat("Error(s) in loading state_dict for RecursiveScriptModule:", message));
}

std::vector<std::string> FirstOf(const std::vector<std::string>& keys) {
  return {keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(keys.size(), 3))};
}

// What load_state_dict(strict=False) would take without a word.
absl::Status CheckShare(const Findings& findings, const MatchPolicy& policy) {
  const size_t matched = findings.pairs.size();
  const size_t wanted = matched + findings.missing.size();
  if (wanted == 0) return absl::OkStatus();
  const double share = static_cast<double>(matched) / static_cast<double>(wanted);
  if (matched > 0 && share >= policy.min_match) return absl::OkStatus();
  return MakeError(
      Reason::MODEL_WEIGHTS_MISMATCH,
      absl::StrCat(matched, " of ", wanted, " keys of the module match the weights, and ",
                   policy.min_match > 0 ? absl::StrCat("min_match asks for ", policy.min_match) : "one at least has to",
                   "; see what `sconce plan` says. The module wants \"",
                   absl::StrJoin(FirstOf(findings.missing), "\", \""), "\" ..., the weights have \"",
                   absl::StrJoin(FirstOf(findings.unexpected), "\", \""), "\" ..."));
}

}  // namespace

absl::Status ApplyStateDict(const std::vector<NamedWeight>& weights, const MatchPolicy& policy,
                            torch::jit::Module& module) {
  WeightsByName by_name;
  for (const NamedWeight& weight : weights) by_name[weight.name] = &weight;
  Findings findings;
  for (const auto& [name, submodule] : module.named_modules()) {
    MatchModule(name, submodule, weights, by_name, findings);
  }
  SCONCE_RETURN_IF_ERROR(ToStatus(findings, policy.lenient));
  SCONCE_RETURN_IF_ERROR(CheckShare(findings, policy));

  const at::NoGradGuard no_grad;
  for (auto& [target, weight] : findings.pairs) {
    if (policy.take_dtype && weight.is_floating_point() && target.is_floating_point() &&
        weight.scalar_type() != target.scalar_type()) {
      target.set_data(target.to(weight.scalar_type()));
    }
    const bool fits = weight.scalar_type() == target.scalar_type() && weight.device() == target.device() &&
                      weight.strides() == target.strides() && target.layout() == at::kStrided;
    if (fits) {
      target.set_data(weight);
    } else {
      target.copy_(weight);
    }
  }
  return absl::OkStatus();
}

}  // namespace sconce::torch_runtime
