#ifndef SCONCE_SERVER_TORCH_RUNTIME_TORCH_MODEL_H_
#define SCONCE_SERVER_TORCH_RUNTIME_TORCH_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "server/worker_protocol/channel.h"
#include "server/worker_protocol/messages.h"

// The one door to LibTorch; this header has none of it. For one thread. No exception comes out. Errors carry, beside
// their message, metadata "detail" with all that was thrown.
namespace sconce::torch_runtime {

// Of the LibTorch that is linked: "1.13.0".
std::string TorchVersion();

// Once, before anything else: has LibTorch do what it otherwise does when it first computes (finding out about the
// processor, opening files and libraries), so that nothing has to be opened later. No thread is left from it.
void Initialize();

// Threads for one operation: OMP_NUM_THREADS where it is set, else so many; 0: one for each core. How many it is then.
// Once, after Initialize.
int UseThreads(uint32_t threads);

// What forward() gave. The tensors of `message` refer to memory that `owner` keeps.
struct Outputs {
  worker::Result message;
  std::shared_ptr<const void> owner;
};

class Sandbox;

// A module of one of the kinds there are (storage/format/module_file.h) with its weights, ready to answer.
class TorchModel {
 public:
  virtual ~TorchModel() = default;

  // Finds out what the archive is, loads it, gives it the weights by name. `body` is the packet that `load` was decoded
  // from. `sandbox` is sealed; it is closed when this returns OK, and `files` may be. MODULE_INVALID,
  // MODEL_WEIGHTS_MISMATCH, TRAINING_MODE_FROZEN, DEVICE_UNAVAILABLE, TORCH_UNAVAILABLE for a kind that cannot be
  // loaded here, IO_ERROR.
  static absl::StatusOr<std::unique_ptr<TorchModel>> Load(const worker::Load& load, std::vector<UniqueFd>& files,
                                                          const worker::Body& body, Sandbox& sandbox);

  // What forward() takes and gives, or what a compiled one was compiled from did.
  virtual worker::Loaded Describe() const = 0;

  // Runs forward() on the inputs, which `owner` keeps. MODEL_INPUT_INVALID, MODEL_FAILED with the first line of what
  // was thrown.
  virtual absl::StatusOr<Outputs> Run(const worker::Infer& infer, const std::shared_ptr<const void>& owner) = 0;
};

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_TORCH_MODEL_H_
