#ifndef SCONCE_SERVER_TORCH_RUNTIME_COMPILED_CONSTANTS_H_
#define SCONCE_SERVER_TORCH_RUNTIME_COMPILED_CONSTANTS_H_

#include <ATen/core/Tensor.h>

#include <vector>

namespace sconce::torch_runtime {

// Notes the tensors that a package makes of its constants while it is loaded, which is how their shapes are learnt: the
// interface of LibTorch 2.6 tells names and dtypes alone. A package makes them with a function of LibTorch's C
// interface, which compiled_constants.cc puts itself in front of. For one thread, one at a time.
class ConstantRecorder {
 public:
  ConstantRecorder();
  ~ConstantRecorder();
  ConstantRecorder(const ConstantRecorder&) = delete;
  ConstantRecorder& operator=(const ConstantRecorder&) = delete;

  // In the order in which they were made, which is that of the package's list without those it computes.
  const std::vector<at::Tensor>& constants() const { return constants_; }
  void Note(const at::Tensor& constant) { constants_.push_back(constant); }

 private:
  std::vector<at::Tensor> constants_;
};

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_COMPILED_CONSTANTS_H_
