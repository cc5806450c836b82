#ifndef SCONCE_SERVER_TORCH_RUNTIME_SCRIPT_MODEL_H_
#define SCONCE_SERVER_TORCH_RUNTIME_SCRIPT_MODEL_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "server/torch_runtime/memory_map.h"
#include "server/torch_runtime/torch_model.h"
#include "server/worker_protocol/channel.h"
#include "server/worker_protocol/messages.h"

namespace sconce::torch_runtime {

// TorchModel::Load for a TorchScript archive: gives it the weights by name, switches to eval mode and checks that this
// worked. MODULE_INVALID, MODEL_WEIGHTS_MISMATCH, TRAINING_MODE_FROZEN, DEVICE_UNAVAILABLE, IO_ERROR.
absl::StatusOr<std::unique_ptr<TorchModel>> LoadScriptModel(const worker::Load& load,
                                                            const std::vector<UniqueFd>& files,
                                                            const worker::Body& body, PrivateBytes archive);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_SCRIPT_MODEL_H_
