#include "server/inference/version_policy.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/strings.h"

namespace sconce::inference {
namespace {

template <typename T>
bool Contains(const std::vector<T>& list, const T& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// What should serve: the version that is wanted, or what is left when that one is refused.
VersionId Target(const VersionSnapshot& now) {
  if (now.wanted.serving == 0) return now.serving;
  if (!Contains(now.refused, now.wanted.serving)) return {now.wanted.serving, now.generation};
  // Refused for the deployment as it is now; it may serve as it was.
  if (now.serving.version != 0) return now.serving;
  if (now.last_served == 0 || Contains(now.refused, now.last_served)) return {};
  return {now.last_served, now.generation};
}

bool IsNeeded(const VersionSnapshot& now, const VersionId& target, const VersionId& loaded) {
  if (now.unloaded) return false;
  if (loaded == now.serving || loaded == target) return true;
  if (loaded.generation != now.generation) return false;
  if (now.keep_previous && loaded == now.previous) return true;
  return loaded.version == now.wanted.canary || loaded.version == now.wanted.shadow;
}

}  // namespace

VersionAction NextAction(const VersionSnapshot& now) {
  const VersionId target = Target(now);
  for (const VersionId& loaded : now.loaded) {
    if (!IsNeeded(now, target, loaded)) return {VersionAction::kUnload, loaded};
  }
  if (now.unloaded) return {};
  if (target.version != 0 && target != now.serving) {
    if (Contains(now.loaded, target)) return {VersionAction::kPromote, target};
    if (now.transition == Transition::kResourcePreserving && now.serving.version != 0) {
      return {VersionAction::kUnload, now.serving};
    }
    return {VersionAction::kLoad, target};
  }
  for (const int64_t version : {now.wanted.canary, now.wanted.shadow}) {
    const VersionId id{version, now.generation};
    if (version != 0 && !Contains(now.loaded, id) && !Contains(now.refused, version)) {
      return {VersionAction::kLoad, id};
    }
  }
  return {};
}

bool GoesToCanary(const std::string& model, const std::string& request_id, double weight) {
  const std::string text = absl::StrCat(model.size(), ":", model, request_id);
  const Fingerprint hash = Xxh3(AsBytes(text));
  uint64_t bits;
  std::memcpy(&bits, hash.bytes.data(), sizeof(bits));
  // 53 bits make a double in [0, 1) without rounding.
  return std::ldexp(static_cast<double>(bits >> 11), -53) < weight;
}

}  // namespace sconce::inference
