#ifndef SCONCE_SERVER_INFERENCE_DEPLOYMENT_H_
#define SCONCE_SERVER_INFERENCE_DEPLOYMENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/inference/batch_policy.h"
#include "server/inference/departure.h"
#include "server/inference/tensor_spec.h"
#include "server/inference/version_policy.h"
#include "server/inference/weight_source.h"
#include "storage/format/cast.h"
#include "storage/format/key_rules.h"

namespace sconce::inference {

class Batcher;

struct WeightsRef {
  RunId run;
  std::string selector;         // a version number, "latest", "best" or an alias
  std::string path;             // of the state_dict in the tree; "" is the root
  format::KeyRules rules = {};  // for its keys
  MatchPolicy match = {};
  friend bool operator==(const WeightsRef& a, const WeightsRef& b) {
    return a.run == b.run && a.selector == b.selector && a.path == b.path && a.rules == b.rules && a.match == b.match;
  }
};

// A version that gets a share of the requests beside the one that serves.
struct Canary {
  std::string selector;  // of the same run
  double weight = 0;     // the share, 0 to 1
};

// Tensors to warm up with; without them, what the input specs say is made up.
struct WarmUpTensor {
  std::string name;
  format::DType dtype = format::DType::kFloat32;
  format::Dims shape;
  std::string bytes;  // row-major
};
struct WarmUp {
  int32_t runs = 1;  // of each instance
  std::vector<WarmUpTensor> tensors;
};

// What an operator asks for.
struct DeploymentSpec {
  RunId module_run;
  std::string module;
  std::optional<WeightsRef> weights;  // absent: the module's own, served as version 1
  std::string device = "cpu";
  format::DtypeCast cast;  // of the weights, by their paths under WeightsRef::path
  BatchPolicy batching;
  int32_t instances = 1;
  std::vector<TensorSpec> inputs, outputs;  // empty: nothing is known of them
  WarmUp warm_up;

  // Which versions are there, and what they are for. Changing these reloads nothing.
  Transition transition = Transition::kAvailabilityPreserving;
  bool keep_previous = false;  // the version that served before stays loaded
  int64_t pinned_version = 0;  // serves whatever the selector means; 0: none
  std::optional<Canary> canary;
  std::string shadow;  // a selector of the same run: it gets what the others get, and its answers are dropped. "": none

  friend bool operator==(const DeploymentSpec& a, const DeploymentSpec& b);
};

// True when versions that were loaded for `a` can go on under `b`.
bool LoadsAlike(const DeploymentSpec& a, const DeploymentSpec& b);

// What is written down about a deployment, so that it survives a restart.
struct DeploymentRecord {
  DeploymentSpec spec;
  std::string request_id;
  absl::Time create_time;
  bool unloaded = false;  // kept, but not in memory until it is loaded again
};

// Bytes that start with a format number. CATALOG_CORRUPT for what no release up to this one wrote.
std::string EncodeDeployment(const DeploymentRecord& record);
absl::StatusOr<DeploymentRecord> DecodeDeployment(const std::string& bytes);

enum class ModelState { kLoading, kReady, kFailed, kUnloaded };

// What a version that is loaded, or was to be, is for.
enum class VersionRole { kNone, kServing, kCanary, kShadow, kPrevious };

struct VersionStatus {
  int64_t version = 0;
  ModelState state = ModelState::kLoading;
  std::string reason;  // why it failed
  absl::Time transition_time;
  VersionRole role = VersionRole::kNone;
  std::string note;  // what a reader should know: no warm-up, no batching
};

struct DeploymentStatus {
  std::string model;
  DeploymentSpec spec;
  ModelState state = ModelState::kLoading;
  std::string reason;                   // why it failed; why another version was refused while one serves
  std::vector<VersionStatus> versions;  // the one that serves first
  absl::Time create_time;
  std::string etag;
};

// A version of a model that answers. Whoever holds it keeps it loaded: requests under way finish on the version they
// began with.
struct ServingModel {
  std::string model;
  int64_t version = 0;
  std::shared_ptr<Batcher> loaded;
  std::shared_ptr<const DeploymentSpec> spec;  // it was loaded for
  std::string note;                            // about its warm-up
  std::shared_ptr<Departure> departure;        // of it and all its instances; null: nobody will wait for it
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_DEPLOYMENT_H_
