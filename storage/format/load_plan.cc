#include "storage/format/load_plan.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace sconce::format {
namespace {

using KeyNumbers = absl::flat_hash_map<absl::string_view, size_t>;

constexpr absl::string_view kExtraState = "_extra_state";
constexpr absl::string_view kBatchesTracked = "num_batches_tracked";
constexpr size_t kMaxSuggestions = 8;
// Parts of all keys together, which is what a plan takes time for: some seconds' worth.
constexpr int64_t kMaxSegments = int64_t{16} << 20;

absl::string_view LastSegment(absl::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == absl::string_view::npos ? key : key.substr(dot + 1);
}

std::string SizeText(const Dims& shape) {
  return absl::StrCat("torch.Size([", absl::StrJoin(shape, ", "), "])");
}

absl::StatusOr<KeyNumbers> NumberTargets(const LoadTarget& target) {
  if (target.keys.size() > kMaxTargetKeys) {
    return MakeError(Reason::INPUT_LIMIT_EXCEEDED, absl::StrCat("a target of ", target.keys.size(),
                                                                " keys is more than the ", kMaxTargetKeys, " taken"));
  }
  KeyNumbers numbers;
  numbers.reserve(target.keys.size());
  for (size_t i = 0; i < target.keys.size(); ++i) {
    const TargetKey& key = target.keys[i];
    if (key.key.empty() || key.key.size() > kMaxTargetKeyBytes) {
      return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("target key ", i, " is empty or longer than ",
                                                              kMaxTargetKeyBytes, " bytes: ", Quoted(key.key, 60)));
    }
    if (std::any_of(key.shape.begin(), key.shape.end(), [](int64_t size) { return size < 0; })) {
      return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("the shape of target key ", Quoted(key.key), ", ",
                                                              SizeText(key.shape), ", has a negative size"));
    }
    if (!numbers.emplace(key.key, i).second) {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("target key ", Quoted(key.key), " is given twice; a state_dict has each key once"));
    }
  }
  return numbers;
}

absl::Status CheckSegments(const LoadTarget& target, const std::vector<std::string>& keys) {
  int64_t segments = 0;
  for (const TargetKey& key : target.keys) segments += 1 + std::count(key.key.begin(), key.key.end(), '.');
  for (const std::string& key : keys) segments += 1 + std::count(key.begin(), key.end(), '.');
  if (segments <= kMaxSegments) return absl::OkStatus();
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   absl::StrCat("the keys of checkpoint and target have ", segments,
                                " parts between dots, which is more than the ", kMaxSegments, " taken"));
}

// The modules that the target's keys are in, numbered in the order in which PyTorch comes to them.
class ModuleTree {
 public:
  // `key` outlives this.
  void Add(absl::string_view key) {
    size_t module = 0;
    for (size_t dot; (dot = key.find('.')) != absl::string_view::npos; key.remove_prefix(dot + 1)) {
      const auto [child, is_new] = children_.try_emplace({module, key.substr(0, dot)}, count_);
      if (is_new) ++count_;
      module = child->second;
    }
  }

  // Where PyTorch reports an unexpected key, and whether it does so before the others there (the module's own extra
  // state).
  std::pair<size_t, bool> Reporter(absl::string_view key) const {
    size_t module = 0;
    for (size_t dot; (dot = key.find('.')) != absl::string_view::npos; key.remove_prefix(dot + 1)) {
      const auto child = children_.find({module, key.substr(0, dot)});
      if (child == children_.end()) return {module, false};
      module = child->second;
    }
    return {module, key == kExtraState};
  }

 private:
  absl::flat_hash_map<std::pair<size_t, absl::string_view>, size_t> children_;
  size_t count_ = 1;  // the root is 0
};

// Whose BatchNorm fills in a missing num_batches_tracked.
class OldVersions {
 public:
  OldVersions(const StateDict& source, const KeyRules& rules, const std::vector<std::string>& keys,
              const KeyNumbers& targets, const LoadTarget& target)
      : source_(source), targets_(targets), scripted_(target.scripted) {
    if (scripted_) return;
    for (size_t i = 0; i < keys.size(); ++i) origins_.try_emplace(ModuleOfKey(keys[i]), i);
    // A module of which the checkpoint has no keys is known by its name alone, which the rules change as they would a
    // key's. (Where they make two modules one, neither is known.)
    std::vector<std::string> names;
    std::vector<int64_t> versions;
    for (const auto& [module, version] : source.versions) {
      if (module.empty()) continue;  // a wrapper's own entry, beside that of the module it wraps
      names.push_back(absl::StrCat(module, ".", kBatchesTracked));
      versions.push_back(version);
    }
    const absl::StatusOr<std::vector<std::string>> renamed = ApplyKeyRules(rules, names);
    if (!renamed.ok()) return;
    for (size_t i = 0; i < renamed->size(); ++i) version_of_key_.emplace((*renamed)[i], versions[i]);
    const auto root = source.versions.find("");
    if (root != source.versions.end()) version_of_key_.emplace(kBatchesTracked, root->second);
  }

  bool FillsIn(const std::string& key) const {
    if (scripted_ || LastSegment(key) != kBatchesTracked) return false;
    const absl::string_view prefix = absl::StripSuffix(key, kBatchesTracked);
    if (!targets_.contains(absl::StrCat(prefix, "running_mean"))) return false;
    if (!targets_.contains(absl::StrCat(prefix, "running_var"))) return false;
    // The version that the checkpoint gives the module which the keys of this one come from.
    const auto origin = origins_.find(ModuleOfKey(key));
    if (origin == origins_.end()) {
      const auto known = version_of_key_.find(key);
      return known == version_of_key_.end() || known->second < 2;
    }
    const auto version = source_.versions.find(ModuleOfKey(source_.keys[origin->second].key));
    return version == source_.versions.end() || version->second < 2;
  }

 private:
  const StateDict& source_;
  const KeyNumbers& targets_;
  const bool scripted_;
  absl::flat_hash_map<absl::string_view, size_t> origins_;    // by module after the rules: its first key
  absl::flat_hash_map<std::string, int64_t> version_of_key_;  // of num_batches_tracked, named as after the rules
};

// Why a key cannot be loaded, in PyTorch's words; "" when it can.
std::string Objection(const Manifest& manifest, const SourceKey& source, const TargetKey& target) {
  if (LastSegment(target.key) == kExtraState) return "";
  if (!source.is_tensor) {
    return absl::StrCat("While copying the parameter named \"", target.key,
                        "\", expected torch.Tensor or Tensor-like object from checkpoint but received ",
                        PythonTypeText(manifest, source.value));
  }
  const bool old_scalar = target.shape.empty() && source.shape.size() == 1 && source.shape[0] == 1;
  if (old_scalar || source.shape == target.shape) return "";
  return absl::StrCat("size mismatch for ", target.key, ": copying a param with shape ", SizeText(source.shape),
                      " from checkpoint, the shape in current model is ", SizeText(target.shape), ".");
}

std::vector<size_t> FindUnexpected(const LoadPlan& plan, const KeyNumbers& targets, const LoadTarget& target) {
  ModuleTree modules;
  for (const TargetKey& key : target.keys) modules.Add(key.key);
  std::vector<std::tuple<size_t, bool, size_t>> found;  // module, not first there, source
  for (size_t i = 0; i < plan.keys.size(); ++i) {
    if (targets.contains(plan.keys[i])) continue;
    const auto [module, first] = modules.Reporter(plan.keys[i]);
    found.emplace_back(module, !first, i);
  }
  std::sort(found.begin(), found.end());
  std::vector<size_t> unexpected;
  unexpected.reserve(found.size());
  for (const auto& [module, later, source] : found) unexpected.push_back(source);
  return unexpected;
}

// Text that stops growing at a limit.
class Cut {
 public:
  explicit Cut(size_t max_bytes) : max_bytes_(max_bytes) {}
  void Add(absl::string_view part) {
    if (text_.size() + part.size() <= max_bytes_ && !full_) {
      absl::StrAppend(&text_, part);
    } else if (!std::exchange(full_, true)) {
      absl::StrAppend(&text_, " ...");
    }
  }
  bool full() const { return full_; }
  std::string Take() { return std::move(text_); }

 private:
  const size_t max_bytes_;
  std::string text_;
  bool full_ = false;
};

template <typename KeyAt>
void AddKeyList(absl::string_view what, size_t count, KeyAt key_at, Cut& text) {
  if (count == 0) return;
  text.Add(absl::StrCat("\n\t", what, " key(s) in state_dict: "));
  for (size_t i = 0; i < count && !text.full(); ++i) {
    text.Add(absl::StrCat(i == 0 ? "" : ", ", "\"", key_at(i), "\""));
  }
  text.Add(". ");
}

}  // namespace

double LoadPlan::match_rate() const {
  const size_t wanted = target_count - defaulted.size();
  return wanted == 0 ? 1.0 : static_cast<double>(matched.size()) / static_cast<double>(wanted);
}

absl::StatusOr<LoadPlan> PlanLoad(const Manifest& manifest, const StateDict& source, const KeyRules& rules,
                                  const LoadTarget& target) {
  SCONCE_ASSIGN_OR_RETURN(const KeyNumbers targets, NumberTargets(target));
  std::vector<std::string> original;
  original.reserve(source.keys.size());
  for (const SourceKey& key : source.keys) original.push_back(key.key);
  LoadPlan plan;
  plan.target_count = target.keys.size();
  SCONCE_ASSIGN_OR_RETURN(plan.keys, ApplyKeyRules(rules, original));
  SCONCE_RETURN_IF_ERROR(CheckSegments(target, plan.keys));
  KeyNumbers sources;
  sources.reserve(plan.keys.size());
  for (size_t i = 0; i < plan.keys.size(); ++i) sources.emplace(plan.keys[i], i);
  const OldVersions old_versions(source, rules, plan.keys, targets, target);

  for (size_t i = 0; i < target.keys.size(); ++i) {
    const TargetKey& wanted = target.keys[i];
    const auto found = sources.find(wanted.key);
    if (found == sources.end()) {
      (old_versions.FillsIn(wanted.key) ? plan.defaulted : plan.missing).push_back(i);
      continue;
    }
    const SourceKey& given = source.keys[found->second];
    std::string objection = Objection(manifest, given, wanted);
    if (objection.empty()) {
      const bool converts = given.is_tensor && !wanted.dtype.empty() && wanted.dtype != given.dtype;
      plan.matched.push_back({found->second, i, converts});
    } else {
      plan.mismatched.push_back({found->second, i, std::move(objection)});
    }
  }
  plan.unexpected = FindUnexpected(plan, targets, target);
  return plan;
}

std::string LoadError(const LoadPlan& plan, const LoadTarget& target, bool strict, absl::string_view class_name,
                      size_t max_bytes) {
  if (strict ? plan.fits() : plan.mismatched.empty()) return "";
  Cut text(max_bytes);
  text.Add(absl::StrCat("Error(s) in loading state_dict for ", class_name, ":"));
  if (strict) {
    AddKeyList(
        "Missing", plan.missing.size(), [&](size_t i) { return target.keys[plan.missing[i]].key; }, text);
    AddKeyList(
        "Unexpected", plan.unexpected.size(), [&](size_t i) { return plan.keys[plan.unexpected[i]]; }, text);
  }
  for (const LoadPlan::Mismatch& mismatch : plan.mismatched) {
    if (text.full()) break;
    text.Add(absl::StrCat("\n\t", mismatch.message));
  }
  return text.Take();
}

std::string SuggestRules(const LoadPlan& plan, const LoadTarget& target) {
  if (plan.missing.empty() || plan.unexpected.empty()) return "";
  KeyNumbers sources;
  for (size_t i = 0; i < plan.keys.size(); ++i) sources.emplace(plan.keys[i], i);
  // Prefixes that would make the first missing key, or an unexpected one fit.
  const std::string& missing = target.keys[plan.missing.front()].key;
  std::vector<std::string> to_strip;
  std::vector<std::string> to_add;
  for (const size_t source : plan.unexpected) {
    const std::string& key = plan.keys[source];
    if (to_strip.size() < kMaxSuggestions && absl::EndsWith(key, absl::StrCat(".", missing))) {
      to_strip.push_back(key.substr(0, key.size() - missing.size()));
    }
    if (to_add.size() < kMaxSuggestions && absl::EndsWith(missing, absl::StrCat(".", key))) {
      to_add.push_back(missing.substr(0, missing.size() - key.size()));
    }
  }
  size_t best = plan.matched.size();
  std::string suggestion;
  const auto consider = [&](size_t count, absl::string_view what, const std::string& prefix) {
    if (count <= best) return;
    best = count;
    suggestion = absl::StrCat("with the prefix ", Quoted(prefix), " ", what, ", ", count, " of ", target.keys.size(),
                              " keys would be found");
  };
  for (const std::string& prefix : to_strip) {
    const auto found = [&](const TargetKey& key) {
      return sources.contains(absl::StrCat(prefix, key.key)) || sources.contains(key.key);
    };
    consider(static_cast<size_t>(std::count_if(target.keys.begin(), target.keys.end(), found)), "taken off", prefix);
  }
  for (const std::string& prefix : to_add) {
    const auto found = [&](const TargetKey& key) {
      return absl::StartsWith(key.key, prefix) && sources.contains(absl::string_view(key.key).substr(prefix.size()));
    };
    consider(static_cast<size_t>(std::count_if(target.keys.begin(), target.keys.end(), found)), "put on", prefix);
  }
  return suggestion;
}

Selected KeepMatched(const Manifest& manifest, const StateDict& source, const LoadPlan& plan,
                     const LoadTarget& target) {
  std::vector<KeptKey> kept;
  kept.reserve(plan.matched.size());
  for (const LoadPlan::Match& match : plan.matched) kept.push_back({match.source, target.keys[match.target].key});
  return KeepKeys(manifest, source, kept);
}

}  // namespace sconce::format
