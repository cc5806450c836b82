#ifndef SCONCE_SERVER_TORCH_RUNTIME_TRAIN_MODE_CHECK_H_
#define SCONCE_SERVER_TORCH_RUNTIME_TRAIN_MODE_CHECK_H_

#include <torch/csrc/jit/api/module.h>

#include "absl/status/status.h"

namespace sconce::torch_runtime {

// Whether `module`, on which eval() was called, really is in eval mode: no submodule says otherwise, and forward() has
// no train mode baked in, as it has when it was traced or frozen while training. TRAINING_MODE_FROZEN naming the
// operation. May throw c10::Error.
absl::Status CheckEvalMode(const torch::jit::Module& module);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_TRAIN_MODE_CHECK_H_
