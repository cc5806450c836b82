#ifndef SCONCE_SERVER_INFERENCE_DEPLOYMENT_H_
#define SCONCE_SERVER_INFERENCE_DEPLOYMENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/inference/batcher.h"
#include "server/inference/weight_source.h"
#include "storage/format/key_rules.h"

namespace sconce::inference {

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

// What an operator asks for.
struct DeploymentSpec {
  RunId module_run;
  std::string module;
  std::optional<WeightsRef> weights;  // absent: the module's own, served as version 1
  std::string device = "cpu";
  friend bool operator==(const DeploymentSpec& a, const DeploymentSpec& b) {
    return a.module_run == b.module_run && a.module == b.module && a.weights == b.weights && a.device == b.device;
  }
};

// What is written down about a deployment, so that it survives a restart.
struct DeploymentRecord {
  DeploymentSpec spec;
  std::string request_id;
  absl::Time create_time;
};

// Bytes that start with a format number. CATALOG_CORRUPT for what no release up to this one wrote.
std::string EncodeDeployment(const DeploymentRecord& record);
absl::StatusOr<DeploymentRecord> DecodeDeployment(const std::string& bytes);

enum class ModelState { kLoading, kReady, kFailed };

struct VersionStatus {
  int64_t version = 0;
  ModelState state = ModelState::kLoading;
  std::string reason;  // why it failed
  absl::Time transition_time;
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
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_DEPLOYMENT_H_
