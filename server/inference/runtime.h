#ifndef SCONCE_SERVER_INFERENCE_RUNTIME_H_
#define SCONCE_SERVER_INFERENCE_RUNTIME_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/strings.h"
#include "storage/format/manifest.h"

// What runs models, as the rest of the server sees it: nothing here knows torch or processes.
namespace sconce::inference {

// A piece of a file that a runtime may map itself.
struct FileExtent {
  int fd = -1;  // read-only, kept open by `owner`
  int64_t offset = 0;
  int64_t size_bytes = 0;
  std::shared_ptr<const void> owner;
};

// Bytes that lie in files, piece after piece, or, when there are no extents, in `inline_bytes`.
struct StoredBytes {
  int64_t size_bytes = 0;
  std::vector<FileExtent> extents;
  std::string inline_bytes;
};

struct StateEntry {
  std::string name;         // a key of the state_dict
  format::TensorView view;  // of StateDict::storages
};

// Weights by name. Entries that share a storage still do in the model.
struct StateDict {
  std::vector<StateEntry> entries;
  std::vector<StoredBytes> storages;
};

// How weights have to fit the module.
struct MatchPolicy {
  // Missing and unexpected keys are tolerated, as load_state_dict(strict=False) does; but at least one key has to
  // match.
  bool lenient = false;
  double min_match = 0;  // the smallest share of the module's keys that must match, 0 to 1
  friend bool operator==(const MatchPolicy& a, const MatchPolicy& b) {
    return a.lenient == b.lenient && a.min_match == b.min_match;
  }
};

struct ModelSpec {
  std::string name;                  // for logs
  std::string device;                // "cpu"
  StoredBytes module;                // its file, of whatever kind the runtime knows
  std::optional<StateDict> weights;  // absent: the module's own
  MatchPolicy match;                 // of the weights
  bool take_dtype = false;           // floats of the module become of their weight's dtype, not the other way round
  std::shared_ptr<void> presence;    // kept for as long as anything of the model takes memory
  int threads = 0;                   // for one operation, unless OMP_NUM_THREADS says otherwise; 0: one for each core
};

struct ModelArgument {
  std::string name;
  std::string type;  // as Python writes it: "Tensor", "Optional[Tensor]", "int"
  bool required = true;
};

struct ModelSignature {
  std::vector<ModelArgument> inputs;  // of forward()
  std::vector<std::string> outputs;   // empty when only a run can tell
};

// A tensor in the host's memory: row-major, without gaps.
struct HostTensor {
  std::string name;
  format::DType dtype = format::DType::kFloat32;
  format::Dims shape;
  ByteSpan bytes;
  std::shared_ptr<const void> owner;  // keeps `bytes`; null when the caller does
};

using InferResult = absl::StatusOr<std::vector<HostTensor>>;
using InferDone = absl::AnyInvocable<void(InferResult)>;

// A module with weights, in eval mode, that answers. Thread-safe. Destroying it ends what runs it; nobody may then be
// waiting for an answer.
class LoadedModel {
 public:
  virtual ~LoadedModel() = default;

  virtual const ModelSignature& signature() const = 0;

  // OK when it would answer now; WORKER_DIED while what runs it is being restarted.
  virtual absl::Status Health() const = 0;

  // What ending it would give back, in bytes; 0 when that is not known.
  virtual int64_t memory_bytes() const { return 0; }

  // Until this is called, loading and what it is asked give way to models that serve. Once it was tried out.
  virtual void BeginServing() {}

  // Runs forward() on `inputs`, which are named as its arguments; what they refer to stays until `done` is called. That
  // happens exactly once, from any thread, perhaps before this returns; it must be quick. It gets the outputs, named
  // OUTPUT__0, OUTPUT__1 ... or by the keys of the dict that forward() returned, or MODEL_INPUT_INVALID, MODEL_FAILED,
  // WORKER_MEMORY_EXCEEDED, WORKER_DIED (this request was running, or came while the worker restarts),
  // WORKER_DEADLINE_EXCEEDED (it ran too long and was ended), MODEL_OVERLOADED, CALL_DEADLINE_EXCEEDED (its turn had
  // not come by `deadline`).
  virtual void Infer(const std::vector<HostTensor>& inputs, absl::Time deadline, InferDone done) = 0;

  // Lends the calling thread, awake, to a request that runs, for `patience` at most, to give its answer: that spares
  // the switch to another thread. Returns at once when nothing runs, or the answer is not expected so soon.
  virtual void LendThread(absl::Duration /*patience*/) {}
};

// Makes models ready. Thread-safe; outlives the models it loaded.
class ModelRuntime {
 public:
  virtual ~ModelRuntime() = default;

  // Loads the module, gives it the weights by name as `match` says, in eval mode. Blocks, some seconds
  // perhaps. MODULE_INVALID, MODEL_WEIGHTS_MISMATCH in torch's own words, TRAINING_MODE_FROZEN, DEVICE_UNAVAILABLE,
  // TORCH_UNAVAILABLE, WORKER_MEMORY_EXCEEDED, WORKER_DIED, WORKER_DEADLINE_EXCEEDED.
  virtual absl::StatusOr<std::shared_ptr<LoadedModel>> Load(const ModelSpec& spec) = 0;

  // At shutdown: loads under way end soon with SERVER_DRAINING, and later ones at once. Models that are loaded go on.
  virtual void CancelLoads() = 0;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_RUNTIME_H_
