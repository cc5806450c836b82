#ifndef SCONCE_SERVER_INFERENCE_WEIGHT_SOURCE_H_
#define SCONCE_SERVER_INFERENCE_WEIGHT_SOURCE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/inference/runtime.h"
#include "storage/format/cast.h"

namespace sconce::inference {

struct RunId {
  std::string project;
  std::string run;
  friend bool operator==(const RunId& a, const RunId& b) { return a.project == b.project && a.run == b.run; }
};

// Where deployments get modules and weights from, and where they are written down. The composition root implements it
// over the repository. Thread-safe; every call but the setters may block on the disk.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The version that `selector` (a number, "latest", "best" or an alias) means now. The errors of resolving one:
  // RUN_NOT_FOUND, CHECKPOINT_NOT_FOUND, BEST_UNDEFINED ...
  virtual absl::StatusOr<int64_t> ResolveVersion(const RunId& run, const std::string& selector) = 0;

  // The state_dict at `path` in the version's tree, its stored bytes checked. PATH_INVALID, PATH_NOT_FOUND,
  // CHECKPOINT_OPAQUE; MODEL_WEIGHTS_MISMATCH when what is there is no state_dict (a dict of str to strided tensors
  // that have bytes); CHUNK_CORRUPT; the errors of `cast`, whose patterns are for paths under `path`. Deleting the
  // version afterwards does no harm to what this returned.
  virtual absl::StatusOr<StateDict> OpenWeights(const RunId& run, int64_t version, const std::string& path,
                                                const format::DtypeCast& cast) = 0;

  // MODULE_NOT_FOUND, CHUNK_CORRUPT.
  virtual absl::StatusOr<StoredBytes> OpenModule(const RunId& run, const std::string& module) = 0;

  // Deployments by model name, as opaque records. MODEL_ALREADY_EXISTS, MODEL_NOT_FOUND.
  virtual absl::Status CreateDeployment(const std::string& model, const std::string& record) = 0;
  virtual absl::Status ReplaceDeployment(const std::string& model, const std::string& record) = 0;
  virtual absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ListDeployments() = 0;
  virtual absl::Status DeleteDeployment(const std::string& model) = 0;

  // `changed` runs after every change of a run's checkpoints or aliases; it must be quick. `serves` is asked before a
  // version is deleted. Both from any thread. Empty ones end it: when this returns, none of the old ones runs any more.
  virtual void SetHooks(std::function<void(const RunId&)> changed,
                        std::function<bool(const RunId&, int64_t version)> serves) = 0;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_WEIGHT_SOURCE_H_
