#ifndef SCONCE_STORAGE_FORMAT_LOAD_PLAN_H_
#define SCONCE_STORAGE_FORMAT_LOAD_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/format/key_rules.h"
#include "storage/format/state_dict.h"

// What `module.load_state_dict(state_dict)` would find, before a byte moves. The rules, the order and the sentences are
// those of torch/nn/modules/module.py of PyTorch 2.14; where 1.13 differs it is said here.
namespace sconce::format {

inline constexpr size_t kMaxTargetKeys = 1'000'000;
inline constexpr size_t kMaxTargetKeyBytes = 4096;

// A parameter or persistent buffer of the module that is loaded into.
struct TargetKey {
  std::string key;
  Dims shape;
  std::string dtype;  // "float32"; "" is any
};

// The module that is loaded into, as its own state_dict() lists it.
struct LoadTarget {
  std::vector<TargetKey> keys;
  bool scripted = false;  // a TorchScript module: it has no code of its own for old state_dicts
};

struct LoadPlan {
  struct Match {
    size_t source = 0, target = 0;  // places in StateDict::keys and LoadTarget::keys
    bool converts = false;          // the dtypes differ: PyTorch converts while it copies
  };
  struct Mismatch {
    size_t source = 0, target = 0;
    std::string message;  // PyTorch's own
  };

  std::vector<std::string> keys;     // of the checkpoint, as the rules leave them
  std::vector<Match> matched;        // in the target's order
  std::vector<size_t> missing;       // targets, in their order
  std::vector<size_t> defaulted;     // targets that are not in the checkpoint and that PyTorch fills in by itself
  std::vector<size_t> unexpected;    // sources, in PyTorch's order: module by module
  std::vector<Mismatch> mismatched;  // in the target's order
  size_t target_count = 0;

  // Would load_state_dict(strict=True) take it?
  bool fits() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  // Matched keys among those of the target, without the defaulted ones; 1 when there are none.
  double match_rate() const;
};

// Holds the state_dict in `manifest`, its keys changed by `rules`, against `target`.
//
//  * A key of both matches when the shapes are equal. A target without dimensions also takes a tensor of one element in
//    one dimension, which PyTorch before 0.4 saved. (1.13 takes the first of any number of elements there.) Dtypes need
//    not be equal.
//  * A shape that differs and a value that is no tensor are mismatches. A key `_extra_state` of the target takes
//    anything.
//  * A key of the checkpoint is unexpected when it names no key of the target, even if it names a module of it or
//    something below one of its tensors (which 1.13 overlooks). Unexpected keys come in the order in which PyTorch
//    walks the modules; a module that has no keys itself is unknown here, and its keys count for the one above it.
//  * `num_batches_tracked` beside running statistics is not missing when the checkpoint's `_metadata` says nothing
//  about
//    that module, or a version below 2: BatchNorm then starts to count at 0. Not so in a scripted module.
//
// The errors of ApplyKeyRules; ARGUMENT_INVALID for target keys that are empty, too long or there twice and for shapes
// with a negative size; INPUT_LIMIT_EXCEEDED for more than kMaxTargetKeys, or
// keys with more than 16 million parts between dots. Takes time linear in the size of all keys,
// and memory likewise.
absl::StatusOr<LoadPlan> PlanLoad(const Manifest& manifest, const StateDict& source, const KeyRules& rules,
                                  const LoadTarget& target);

// What PyTorch's RuntimeError would say about loading into a `class_name`, with strict=True or False; "" when it would
// load. Cut at about `max_bytes`.
std::string LoadError(const LoadPlan& plan, const LoadTarget& target, bool strict, absl::string_view class_name,
                      size_t max_bytes);

// What to try when keys are missing: the prefix that would match most more keys when it is taken off or put on. "" when
// there is none.
std::string SuggestRules(const LoadPlan& plan, const LoadTarget& target);

// What matches as a state_dict of its own, under the target's names and in the target's order.
Selected KeepMatched(const Manifest& manifest, const StateDict& source, const LoadPlan& plan, const LoadTarget& target);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_LOAD_PLAN_H_
