#ifndef SCONCE_SERVER_INFERENCE_VERSION_POLICY_H_
#define SCONCE_SERVER_INFERENCE_VERSION_POLICY_H_

#include <cstdint>

namespace sconce::inference {

// What a deployment has and what it should have. 0 is "none".
struct VersionSnapshot {
  int64_t wanted = 0;   // what its selector means now
  int64_t serving = 0;  // answers requests
  int64_t loading = 0;  // being prepared
  int64_t refused = 0;  // was prepared and cannot work: trying again would end the same way
};

enum class VersionAction {
  kNothing,
  kLoad,  // prepare `wanted`; when it is ready it takes over from `serving`
};

// Keeps what serves until its successor is ready (availability before memory: for a while there are two). One version
// is prepared at a time: what is wanted by then is looked at again when it is done.
constexpr VersionAction NextAction(const VersionSnapshot& now) {
  if (now.wanted == 0 || now.loading != 0) return VersionAction::kNothing;
  if (now.wanted == now.serving || now.wanted == now.refused) return VersionAction::kNothing;
  return VersionAction::kLoad;
}

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_VERSION_POLICY_H_
