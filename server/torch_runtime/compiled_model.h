#ifndef SCONCE_SERVER_TORCH_RUNTIME_COMPILED_MODEL_H_
#define SCONCE_SERVER_TORCH_RUNTIME_COMPILED_MODEL_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "server/torch_runtime/memory_map.h"
#include "server/torch_runtime/sandbox.h"
#include "server/torch_runtime/torch_model.h"
#include "server/worker_protocol/channel.h"
#include "server/worker_protocol/messages.h"

namespace sconce::torch_runtime {

// TorchModel::Load for a package of AOTInductor: loads its library inside `sandbox`, which it then closes, and swaps
// its constants for the weights by their names in the module it was compiled from. `files` are closed. MODULE_INVALID,
// MODEL_WEIGHTS_MISMATCH, DEVICE_UNAVAILABLE, IO_ERROR; TORCH_UNAVAILABLE where LibTorch is older than 2.6, or this
// machine has no wall that native code could be run behind.
absl::StatusOr<std::unique_ptr<TorchModel>> LoadCompiledModel(const worker::Load& load, std::vector<UniqueFd>& files,
                                                              const worker::Body& body, PrivateBytes archive,
                                                              Sandbox& sandbox);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_COMPILED_MODEL_H_
