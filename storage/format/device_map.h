#ifndef SCONCE_STORAGE_FORMAT_DEVICE_MAP_H_
#define SCONCE_STORAGE_FORMAT_DEVICE_MAP_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
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
  std::string device;  // everything goes there, as map_location='cpu' does
  std::vector<std::pair<std::string, std::string>>
      remap;                           // exact saved tag to device; the first entry for a tag counts
  std::vector<DeviceRule> rules;       // the first that matches a path counts
  std::vector<std::string> available;  // what the reader has; empty: not said, so nothing is checked
  std::string fallback;                // for what it lacks; empty: that is an error

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

// OK for what torch.device() takes ("cpu", "cuda", "cuda:1"); else DEVICE_INVALID with PyTorch's own sentence.
absl::Status ValidateDevice(absl::string_view device);

// Rewrites the storages' tags and says what changed, in order of first_path. Nothing else of the manifest changes, and
// nothing at all on an error or for an empty mapping.
//
// For each storage: the device of the first rule that matches; else the remap entry for its saved tag; else `device`;
// else the saved tag. The first place in tree order that the storage is found at decides. If another of its paths
// matches a rule for a different device, that is DEVICE_RULE_SPLITS_STORAGE naming both paths. Then, if `available` is
// not empty and lacks the result, `fallback`; without one DEVICE_UNAVAILABLE with torch.load's sentence. In
// `available`, "cuda" means every cuda:N and "cuda:1" only that one; a tag "cuda" without number needs any of them.
// "cpu" is always there.
//
// Storages at "meta" have no bytes and stay; mapping another one to meta is DEVICE_INVALID. DEVICE_INVALID also for a
// device that PyTorch would refuse, PATTERN_INVALID for a rule, INPUT_LIMIT_EXCEEDED when there are rules and the tree
// has too many paths. Requires a valid manifest.
absl::StatusOr<std::vector<MappedDevice>> MapDevices(const DeviceMapping& mapping, Manifest& manifest);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_DEVICE_MAP_H_
