#include "server/torch_runtime/train_mode_check.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/error.h"

namespace sconce::torch_runtime {
namespace {

using torch::jit::Block;
using torch::jit::Node;

// How operators spell the flag that says train mode, the chance of dropping, which at 0 makes that harmless, and the
// statistics without which a normalization uses the batch's own in eval mode too. By name, since the same operator has
// them at several places: a packed sequence's lstm has one input more.
constexpr const char* kTrainFlags[] = {"train", "training", "use_input_stats"};
constexpr const char* kProbabilities[] = {"p", "dropout", "dropout_p"};
constexpr char kRunningMean[] = "running_mean";
// Those that drop without being told to train.
constexpr const char* kAlwaysDrop[] = {"aten::scaled_dot_product_attention", "aten::_scaled_dot_product_attention",
                                       "aten::_fused_dropout"};

using Inputs = absl::Span<const char* const>;

// What the first of these inputs is, when it is a constant: `nullopt` when there is none, or it is computed.
std::optional<c10::IValue> Constant(const Node& node, Inputs names) {
  const c10::FunctionSchema* const schema = node.maybeSchema();
  if (schema == nullptr) return std::nullopt;
  for (const char* name : names) {
    const auto position = schema->argumentIndexWithName(name);
    if (position && static_cast<size_t>(*position) < node.inputs().size()) {
      // Torch's optional may be one of its own, which an IValue could be made of.
      const auto value = torch::jit::toIValue(node.inputs()[static_cast<size_t>(*position)]);
      return value.has_value() ? std::make_optional(*value) : std::nullopt;
    }
  }
  return std::nullopt;
}

bool IsNumber(const std::optional<c10::IValue>& value, bool zero) {
  return value.has_value() && value->isDouble() && (value->toDouble() == 0) == zero;
}

bool HasTrainModeBakedIn(const Node& node) {
  const std::optional<c10::IValue> probability = Constant(node, kProbabilities);
  const std::string kind = node.kind().toQualString();
  if (std::find(std::begin(kAlwaysDrop), std::end(kAlwaysDrop), kind) != std::end(kAlwaysDrop)) {
    return IsNumber(probability, /*zero=*/false);
  }
  const std::optional<c10::IValue> train = Constant(node, kTrainFlags);
  if (!train.has_value() || !train->isBool() || !train->toBool()) return false;
  const std::optional<c10::IValue> statistics = Constant(node, {kRunningMean});
  return !IsNumber(probability, /*zero=*/true) && !(statistics.has_value() && statistics->isNone());
}

// What `graph` does that only training should; and whether it calls methods that nobody knows before it runs.
struct Search {
  std::string baked_in;  // "": nothing
  bool calls_interfaces = false;

  void Look(const std::shared_ptr<torch::jit::Graph>& original) {
    const auto graph = original->copy();
    torch::jit::Inline(*graph);
    std::vector<Block*> blocks = {graph->block()};
    while (!blocks.empty() && baked_in.empty()) {
      Block* const block = blocks.back();
      blocks.pop_back();
      for (Node* node : block->nodes()) {
        LookAt(*node);
        for (Block* inner : node->blocks()) blocks.push_back(inner);
      }
    }
  }

 private:
  void LookAt(const Node& node) {
    if (baked_in.empty() && HasTrainModeBakedIn(node)) {
      const std::string output = node.outputs().empty() ? "" : absl::StrCat(" (%", node.outputs()[0]->debugName(), ")");
      baked_in = absl::StrCat(node.kind().toQualString(), output, " has train=True as a constant");
    }
    if (node.kind() == torch::jit::prim::CallMethod) calls_interfaces = true;
    for (const auto& name : node.attributeNames()) {  // as torch.jit.fork has what it runs
      if (node.kindOf(name) == torch::jit::AttributeKind::g) Look(node.g(name));
    }
  }
};

absl::Status Frozen(absl::string_view what) {
  return MakeError(Reason::TRAINING_MODE_FROZEN,
                   absl::StrCat("the module has train mode baked in, which eval() cannot switch: ", what,
                                "; call eval() before tracing or freezing it, or use torch.jit.script"));
}

}  // namespace

absl::Status CheckEvalMode(const torch::jit::Module& module) {
  for (const auto& [name, submodule] : module.named_modules()) {
    const auto slot = submodule._ivalue()->type()->findAttributeSlot("training");
    if (!slot) continue;
    const c10::IValue training = submodule._ivalue()->getSlot(*slot);
    if (training.isBool() && training.toBool()) return Frozen(absl::StrCat("submodule '", name, "' still trains"));
  }
  Search search;
  search.Look(module.get_method("forward").graph());
  if (search.calls_interfaces) {  // of some submodule then; which, only a run can tell
    for (const auto& submodule : module.modules()) {
      for (const auto& method : submodule.get_methods()) search.Look(method.graph());
    }
  }
  return search.baked_in.empty() ? absl::OkStatus() : Frozen(search.baked_in);
}

}  // namespace sconce::torch_runtime
