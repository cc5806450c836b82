#include "server/torch_runtime/state_dict_apply.h"

#include <ATen/ATen.h>

#include <unordered_set>

#include "absl/strings/match.h"
#include "base/status_macros.h"

namespace sconce::torch_runtime {
namespace {

std::string Prefix(const std::string& module_name) {
  return module_name.empty() ? "" : module_name + ".";
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

}  // namespace

absl::Status ApplyStateDict(const std::vector<NamedWeight>& weights, const MatchPolicy& policy,
                            torch::jit::Module& module) {
  const WeightsByName by_name = IndexByName(weights);
  Findings findings;
  for (const auto& [name, submodule] : module.named_modules()) {
    MatchModule(name, submodule, weights, by_name, findings);
  }
  SCONCE_RETURN_IF_ERROR(CheckFindings(findings, policy, "RecursiveScriptModule", /*hint=*/""));

  const at::NoGradGuard no_grad;
  for (const auto& [name, target, weight] : findings.pairs) {
    if (policy.take_dtype && weight.is_floating_point() && target.is_floating_point() &&
        weight.scalar_type() != target.scalar_type()) {
      target.set_data(target.to(weight.scalar_type()));
    }
    if (CanReplace(target, weight)) {
      target.set_data(weight);
    } else {
      target.copy_(weight);
    }
  }
  return absl::OkStatus();
}

}  // namespace sconce::torch_runtime
