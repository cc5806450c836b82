#ifndef SCONCE_STORAGE_FORMAT_STATE_DICT_H_
#define SCONCE_STORAGE_FORMAT_STATE_DICT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"
#include "storage/format/selection.h"

namespace sconce::format {

// One entry of a state_dict.
struct SourceKey {
  std::string key;
  NodeIndex value = kNoIndex;
  bool is_tensor = false;  // of any kind, Parameters and subclasses too: what load_state_dict can copy from
  std::string dtype;       // of a tensor: "float32"
  Dims shape;              // of a tensor
};

// What `module.state_dict()` gave: a dict of str, mostly to tensors, in the dict's order.
struct StateDict {
  std::vector<SourceKey> keys;
  // What its `_metadata` says: the version of each submodule, by name ("" is the module itself).
  absl::flat_hash_map<std::string, int64_t> versions;
};

// The state_dict that is the root of `manifest`, e.g. after a Selection with its path as root. `where` names it in
// errors. STATE_DICT_INVALID when it is no dict or has a key that is no str, naming places that look better;
// INPUT_LIMIT_EXCEEDED for a key of more than 64 KiB. Requires a
// valid manifest.
absl::StatusOr<StateDict> ReadStateDict(const Manifest& manifest, absl::string_view where);

// How Python prints the type of a value, for PyTorch's sentences: "<class 'int'>".
std::string PythonTypeText(const Manifest& manifest, NodeIndex node);

// "conv1" for "conv1.weight": the module a key belongs to. "" without a dot.
absl::string_view ModuleOfKey(absl::string_view key);

// A key that stays, by its place in StateDict::keys, and what it is called afterwards.
struct KeptKey {
  size_t source = 0;
  std::string key;
};

// The state_dict with only these keys, in this order, under their new names; sharing stays. Its `_metadata` goes along:
// a module gets the entry of the one that its first key came from. `state_dict` is what ReadStateDict made of
// `manifest`. The new names are distinct.
Selected KeepKeys(const Manifest& manifest, const StateDict& state_dict, absl::Span<const KeptKey> kept);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_STATE_DICT_H_
