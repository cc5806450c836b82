#include "server/torch_runtime/train_mode_check.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"

namespace sconce::torch_runtime {
namespace {

using torch::jit::Block;
using torch::jit::Node;

// An operation that behaves differently in train mode, and where its inputs say so.
struct TrainInput {
  const char* kind;
  size_t train;        // the bool that says train mode; kNone: a positive probability alone does
  size_t probability;  // of dropping: 0 makes train mode harmless; kNone: there is none
};
constexpr size_t kNone = SIZE_MAX;
constexpr TrainInput kTrainInputs[] = {
    {"aten::dropout", 2, 1},
    {"aten::dropout_", 2, 1},
    {"aten::native_dropout", 2, 1},
    {"aten::alpha_dropout", 2, 1},
    {"aten::alpha_dropout_", 2, 1},
    {"aten::feature_dropout", 2, 1},
    {"aten::feature_dropout_", 2, 1},
    {"aten::feature_alpha_dropout", 2, 1},
    {"aten::feature_alpha_dropout_", 2, 1},
    {"aten::rrelu", 3, kNone},
    {"aten::rrelu_", 3, kNone},
    {"aten::lstm", 6, 5},
    {"aten::gru", 6, 5},
    {"aten::rnn_tanh", 6, 5},
    {"aten::rnn_relu", 6, 5},
    {"aten::scaled_dot_product_attention", kNone, 4},
    {"aten::_scaled_dot_product_attention", kNone, 4},
    {"aten::batch_norm", 5, kNone},
    {"aten::native_batch_norm", 5, kNone},
    {"aten::cudnn_batch_norm", 5, kNone},
    {"aten::_batch_norm_impl_index", 5, kNone},
};
constexpr size_t kRunningMeanInput = 3;  // of the batch_norm family

bool IsConstantTrue(const Node& node, size_t input) {
  if (input >= node.inputs().size()) return false;
  const auto value = torch::jit::toIValue(node.inputs()[input]);
  return value.has_value() && value->isBool() && value->toBool();
}

bool IsConstantZero(const Node& node, size_t input) {
  const auto value = torch::jit::toIValue(node.inputs()[input]);
  return value.has_value() && value->isDouble() && value->toDouble() == 0;
}

bool IsConstantPositive(const Node& node, size_t input) {
  if (input >= node.inputs().size()) return false;
  const auto value = torch::jit::toIValue(node.inputs()[input]);
  return value.has_value() && value->isDouble() && value->toDouble() > 0;
}

bool IsConstantNone(const Node& node, size_t input) {
  if (input >= node.inputs().size()) return false;
  const auto value = torch::jit::toIValue(node.inputs()[input]);
  return value.has_value() && value->isNone();
}

bool HasTrainModeBakedIn(const Node& node) {
  const std::string kind = node.kind().toQualString();
  for (const TrainInput& entry : kTrainInputs) {
    if (kind != entry.kind) continue;
    if (entry.train == kNone) return IsConstantPositive(node, entry.probability);
    if (!IsConstantTrue(node, entry.train)) return false;
    if (entry.probability != kNone && IsConstantZero(node, entry.probability)) return false;
    // Without running statistics batch_norm uses the batch's own in eval mode too.
    const bool is_batch_norm = kind.find("batch_norm") != std::string::npos;
    return !(is_batch_norm && IsConstantNone(node, kRunningMeanInput));
  }
  return false;
}

const Node* FindBakedIn(Block* top) {
  std::vector<Block*> blocks = {top};
  while (!blocks.empty()) {
    Block* const block = blocks.back();
    blocks.pop_back();
    for (Node* node : block->nodes()) {
      if (HasTrainModeBakedIn(*node)) return node;
      for (Block* inner : node->blocks()) blocks.push_back(inner);
    }
  }
  return nullptr;
}

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
  const auto graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  const Node* const node = FindBakedIn(graph->block());
  if (node == nullptr) return absl::OkStatus();
  const std::string output = node->outputs().empty() ? "" : absl::StrCat(" (%", node->outputs()[0]->debugName(), ")");
  return Frozen(absl::StrCat(node->kind().toQualString(), output, " has train=True as a constant"));
}

}  // namespace sconce::torch_runtime
