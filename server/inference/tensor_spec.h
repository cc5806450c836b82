#ifndef SCONCE_SERVER_INFERENCE_TENSOR_SPEC_H_
#define SCONCE_SERVER_INFERENCE_TENSOR_SPEC_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/inference/runtime.h"

// What an operator says about the inputs and outputs of a model, which TorchScript does not. Pure.
namespace sconce::inference {

struct TensorSpec {
  std::string name;  // an argument of forward(), or INPUT__0 by position; of outputs OUTPUT__0 or the key of a dict
  format::DType dtype = format::DType::kFloat32;
  format::Dims shape;  // all dimensions, the first too; -1: any extent
};

// The argument that an input's name means: its own, or the one at the position behind "__". -1 when there is none.
int FindArgument(const std::string& name, const ModelSignature& signature);

// "[-1,3]"
std::string ShapeText(const format::Dims& shape);

// True when `shape` is one of those that `spec` describes.
bool FitsShape(const TensorSpec& spec, const format::Dims& shape);

// OK when each input that a spec describes has its dtype and shape; MODEL_INPUT_INVALID in Triton's words. `inputs` are
// named as arguments of forward().
absl::Status CheckInputs(const std::string& model, const std::vector<TensorSpec>& specs,
                         const ModelSignature& signature, const std::vector<HostTensor>& inputs);

// OK when the model gave every output that a spec describes, with its dtype and shape; MODEL_WARM_UP_FAILED.
absl::Status CheckOutputs(const std::vector<TensorSpec>& specs, const std::vector<HostTensor>& outputs);

// OK when every spec is of an argument of forward(), and none of one twice; MODULE_INVALID naming those there are.
absl::Status CheckInputSpecs(const std::vector<TensorSpec>& specs, const ModelSignature& signature);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_TENSOR_SPEC_H_
