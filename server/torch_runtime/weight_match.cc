#include "server/torch_runtime/weight_match.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/torch_runtime/tensor_bridge.h"

namespace sconce::torch_runtime {
namespace {

// A parameter without dimensions takes a weight of one element in one dimension, which old releases saved.
bool IsScalarFromOldRelease(const at::Tensor& target, const at::Tensor& weight) {
  return target.dim() == 0 && weight.dim() == 1 && weight.size(0) == 1;
}

std::string KeyList(absl::string_view what, const std::vector<std::string>& keys) {
  return absl::StrCat("\n\t", what, " key(s) in state_dict: \"", absl::StrJoin(keys, "\", \""), "\". ");
}

absl::Status CheckKeys(const Findings& findings, bool lenient, absl::string_view module, absl::string_view hint) {
  std::string message;
  if (!lenient && !findings.missing.empty()) message += KeyList("Missing", findings.missing);
  if (!lenient && !findings.unexpected.empty()) {
    absl::StrAppend(&message, KeyList("Unexpected", findings.unexpected), hint);
  }
  for (const std::string& mismatch : findings.mismatches) absl::StrAppend(&message, "\n\t", mismatch);
  if (message.empty()) return absl::OkStatus();
  return MakeError(Reason::MODEL_WEIGHTS_MISMATCH,
                   absl::StrCat("Error(s) in loading state_dict for ", module, ":", message));
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

WeightsByName IndexByName(const std::vector<NamedWeight>& weights) {
  WeightsByName by_name;
  for (const NamedWeight& weight : weights) by_name[weight.name] = &weight;
  return by_name;
}

void MatchOne(const std::string& name, const at::Tensor& target, const WeightsByName& weights, Findings& findings) {
  const auto found = weights.find(name);
  if (found == weights.end()) {
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
  findings.pairs.push_back({name, target, weight});
}

absl::Status CheckFindings(const Findings& findings, const MatchPolicy& policy, absl::string_view module,
                           absl::string_view hint) {
  SCONCE_RETURN_IF_ERROR(CheckKeys(findings, policy.lenient, module, hint));
  return CheckShare(findings, policy);
}

bool CanReplace(const at::Tensor& target, const at::Tensor& weight) {
  return weight.scalar_type() == target.scalar_type() && weight.device() == target.device() &&
         weight.strides() == target.strides() && target.layout() == at::kStrided;
}

}  // namespace sconce::torch_runtime
