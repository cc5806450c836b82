#ifndef SCONCE_STORAGE_FORMAT_DEVICE_MAP_H_
#define SCONCE_STORAGE_FORMAT_DEVICE_MAP_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/format/device.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// Storages of tensors whose path matches `pattern` (glob.h; one without wildcards also means all below it) go to
// `device`.
struct DeviceRule {
  std::string pattern;
  std::string device;
};

// Where a reader wants storages to be: torch.load's map_location as data, and more.
struct DeviceMapping {
  // Everything goes there, as map_location='cpu' does.
  std::string device;
  // Exact saved tag to device, as a dict for map_location does; the first entry for a tag counts.
  std::vector<std::pair<std::string, std::string>> remap;
  // The first that matches a path counts.
  std::vector<DeviceRule> rules;
  // What the reader has. Empty: not said, so nothing is checked.
  std::vector<std::string> available;
  // For what the reader lacks. Empty: that is an error.
  std::string fallback;

  bool empty() const {
    return device.empty() && remap.empty() && rules.empty() && available.empty() && fallback.empty();
  }
};

// Storages whose tag changed from `from` to `to`, or that are at `to` only because the reader lacks what was asked for.
struct MappedDevice {
  std::string from, to;
  bool fell_back = false;
  int64_t storages = 0;
  int64_t bytes = 0;
  std::string first_path;  // the first place in tree order that such a storage is found at
};

// Rewrites the storages' tags and says what changed, in order of first_path. Nothing else of the manifest changes, and
// nothing at all on an error or for an empty mapping.
//
// For each storage: the device of the first rule that matches; else the remap entry for its saved tag; else `device`;
// else the saved tag. The first place in tree order that the storage is found at decides. If another of its paths
// matches a rule for a different device, that is DEVICE_RULE_SPLITS_STORAGE naming both paths. Then, if `available` is
// not empty and lacks the result (AvailableDevices), `fallback`; without one DEVICE_UNAVAILABLE with torch.load's
// sentence.
//
// Storages at "meta" have no bytes and stay; mapping another one to meta is DEVICE_INVALID. DEVICE_INVALID also for a
// device that PyTorch would refuse and a fallback that is not available, PATTERN_INVALID for a rule,
// INPUT_LIMIT_EXCEEDED when the tree has too many paths (path.h; without rules, what is shared counts once). Requires a
// valid manifest.
absl::StatusOr<std::vector<MappedDevice>> MapDevices(const DeviceMapping& mapping, Manifest& manifest);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_DEVICE_MAP_H_
