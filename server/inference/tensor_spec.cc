#include "server/inference/tensor_spec.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "server/inference/datatype.h"

namespace sconce::inference {
namespace {

const HostTensor* FindTensor(const std::vector<HostTensor>& tensors, const std::string& name) {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const HostTensor& tensor) { return tensor.name == name; });
  return found != tensors.end() ? &*found : nullptr;
}

}  // namespace

int FindArgument(const std::string& name, const ModelSignature& signature) {
  for (size_t i = 0; i < signature.inputs.size(); ++i) {
    if (signature.inputs[i].name == name) return static_cast<int>(i);
  }
  const size_t mark = name.rfind("__");
  uint32_t position = 0;
  if (mark == std::string::npos || !absl::SimpleAtoi(name.substr(mark + 2), &position)) return -1;
  return position < signature.inputs.size() ? static_cast<int>(position) : -1;
}

std::string ShapeText(const format::Dims& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ","), "]");
}

bool FitsShape(const TensorSpec& spec, const format::Dims& shape) {
  return std::equal(spec.shape.begin(), spec.shape.end(), shape.begin(), shape.end(),
                    [](int64_t expected, int64_t got) { return expected == -1 || expected == got; });
}

absl::Status CheckInputs(const std::string& model, const std::vector<TensorSpec>& specs,
                         const ModelSignature& signature, const std::vector<HostTensor>& inputs) {
  for (const TensorSpec& spec : specs) {
    const int argument = FindArgument(spec.name, signature);
    if (argument < 0) continue;
    const HostTensor* input = FindTensor(inputs, signature.inputs[static_cast<size_t>(argument)].name);
    if (input == nullptr) continue;  // it has a default
    if (input->dtype != spec.dtype) {
      return MakeError(Reason::MODEL_INPUT_INVALID,
                       absl::StrCat("inference input '", spec.name, "' data-type is '", DatatypeOfDType(input->dtype),
                                    "', but model '", model, "' expects '", DatatypeOfDType(spec.dtype), "'"));
    }
    if (!FitsShape(spec, input->shape)) {
      return MakeError(Reason::MODEL_INPUT_INVALID,
                       absl::StrCat("unexpected shape for input '", spec.name, "' for model '", model, "'. Expected ",
                                    ShapeText(spec.shape), ", got ", ShapeText(input->shape), "."));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOutputs(const std::vector<TensorSpec>& specs, const std::vector<HostTensor>& outputs) {
  for (const TensorSpec& spec : specs) {
    const HostTensor* output = FindTensor(outputs, spec.name);
    if (output == nullptr) {
      return MakeError(Reason::MODEL_WARM_UP_FAILED,
                       absl::StrCat("the model gives no output '", spec.name, "', which the deployment describes"));
    }
    if (output->dtype != spec.dtype || !FitsShape(spec, output->shape)) {
      return MakeError(
          Reason::MODEL_WARM_UP_FAILED,
          absl::StrCat("output '", spec.name, "' is ", DatatypeOfDType(output->dtype), " ", ShapeText(output->shape),
                       "; the deployment describes ", DatatypeOfDType(spec.dtype), " ", ShapeText(spec.shape)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckInputSpecs(const std::vector<TensorSpec>& specs, const ModelSignature& signature) {
  std::vector<int> seen;
  for (const TensorSpec& spec : specs) {
    const int argument = FindArgument(spec.name, signature);
    const bool twice = std::find(seen.begin(), seen.end(), argument) != seen.end();
    seen.push_back(argument);
    if (argument >= 0 && !twice) continue;
    std::vector<std::string> known;
    for (const ModelArgument& input : signature.inputs) known.push_back(input.name);
    return MakeError(
        Reason::MODULE_INVALID,
        absl::StrCat("the deployment describes input '", spec.name, "'", twice ? " twice" : "", "; forward() takes ",
                     known.empty() ? "nothing" : absl::StrCat("'", absl::StrJoin(known, "', '"), "'")));
  }
  return absl::OkStatus();
}

}  // namespace sconce::inference
