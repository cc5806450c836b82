#ifndef SCONCE_SERVER_INFERENCE_VERSION_POLICY_H_
#define SCONCE_SERVER_INFERENCE_VERSION_POLICY_H_

#include <cstdint>
#include <string>
#include <vector>

// Which versions of a model are loaded and which of them answers. Pure.
namespace sconce::inference {

// How a version takes the place of another.
enum class Transition {
  kAvailabilityPreserving,  // the old one goes when the new one is ready: for a while there are two
  kResourcePreserving,      // the old one goes first: for a while there is none
};

// A version as it was loaded. The generation changes whenever the deployment is changed in a way that asks for loading
// again, so one version may be there twice.
struct VersionId {
  int64_t version = 0;  // 0: none
  int64_t generation = 0;
  friend bool operator==(const VersionId& a, const VersionId& b) {
    return a.version == b.version && a.generation == b.generation;
  }
  friend bool operator!=(const VersionId& a, const VersionId& b) { return !(a == b); }
  friend bool operator<(const VersionId& a, const VersionId& b) {
    return a.version != b.version ? a.version < b.version : a.generation < b.generation;
  }
};

// The versions that a deployment's selectors mean now. 0: none, or not known.
struct WantedVersions {
  int64_t serving = 0, canary = 0, shadow = 0;
};

struct VersionSnapshot {
  WantedVersions wanted;
  int64_t generation = 1;
  Transition transition = Transition::kAvailabilityPreserving;
  bool keep_previous = false;
  bool unloaded = false;  // nothing is to be in memory
  std::vector<VersionId> loaded;
  VersionId serving, previous;   // of those loaded; version 0: none
  int64_t last_served = 0;       // what served last, loaded or not
  std::vector<int64_t> refused;  // were prepared and cannot work, or not just now
};

struct VersionAction {
  enum Kind {
    kNothing,
    kUnload,   // `which`, which may be the one that serves
    kPromote,  // `which`, which is loaded, takes over from the one that serves
    kLoad,     // prepare `which`, beside what there is
  };
  Kind kind = kNothing;
  VersionId which;
  friend bool operator==(const VersionAction& a, const VersionAction& b) {
    return a.kind == b.kind && a.which == b.which;
  }
};

// The next step towards what is wanted; to be asked again when it is done.
//
//   1. What has no role any more is unloaded, so that its memory is there for what follows.
//   2. The wanted version takes over when it is loaded; else it is loaded (after the old one is gone, when resources
//   are
//      to be preserved). One that is refused leaves the old one serving, or, where that is gone, brings it back.
//   3. The canary and the shadow are loaded.
VersionAction NextAction(const VersionSnapshot& now);

// Whether a request goes to the canary. The same id always goes the same way; over many ids the share is `weight`.
bool GoesToCanary(const std::string& model, const std::string& request_id, double weight);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_VERSION_POLICY_H_
