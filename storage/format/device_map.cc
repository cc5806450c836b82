// One walk over the tree decides about each storage at the first place it is found. A second device that a rule gives a
// storage is an error that ends the walk.

#include "storage/format/device_map.h"

#include <map>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/pattern_set.h"
#include "storage/format/place_walk.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxShownPathBytes = 1000;

absl::Status ValidateMapping(const DeviceMapping& mapping) {
  const auto target = [](const std::string& device) -> absl::Status {
    SCONCE_RETURN_IF_ERROR(ValidateDevice(device));
    if (!IsMetaDevice(device)) return absl::OkStatus();
    return MakeError(
        Reason::DEVICE_INVALID,
        "storages cannot be mapped to the meta device, which has no bytes; describe the checkpoint instead "
        "of fetching it",
        {{"device", device}});
  };
  if (!mapping.device.empty()) SCONCE_RETURN_IF_ERROR(target(mapping.device));
  for (const auto& [tag, device] : mapping.remap) SCONCE_RETURN_IF_ERROR(target(device));
  for (const DeviceRule& rule : mapping.rules) SCONCE_RETURN_IF_ERROR(target(rule.device));
  for (const std::string& device : mapping.available) SCONCE_RETURN_IF_ERROR(ValidateDevice(device));
  if (mapping.fallback.empty()) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(target(mapping.fallback));
  if (AvailableDevices(mapping.available).Has(mapping.fallback)) return absl::OkStatus();
  return MakeError(Reason::DEVICE_INVALID,
                   absl::StrCat("the fallback ", mapping.fallback, " is not among the available devices (",
                                absl::StrJoin(mapping.available, ", "), ")"),
                   {{"device", mapping.fallback}});
}

class Mapper {
 public:
  Mapper(const DeviceMapping& mapping, const Manifest& manifest)
      : mapping_(mapping), manifest_(manifest), available_(mapping.available), decisions_(manifest.storages.size()) {
    for (const auto& [tag, device] : mapping.remap) remap_.emplace(tag, device);
  }

  absl::Status Decide(const PatternSet& rules) {
    absl::flat_hash_map<std::string, size_t> outcome_of_device;
    std::vector<size_t> outcomes;
    for (const DeviceRule& rule : mapping_.rules) {
      outcomes.push_back(outcome_of_device.emplace(rule.device, outcome_of_device.size() + 1).first->second);
    }
    return WalkPlaces(
        manifest_, rules, outcomes, [this](NodeIndex node) { return StorageOf(node) != kNoIndex; },
        [this](absl::string_view path, NodeIndex node, size_t rule) { return Found(path, StorageOf(node), rule); });
  }

  std::vector<MappedDevice> Apply(Manifest& manifest) && {
    for (size_t i = 0; i < decisions_.size(); ++i) {
      if (!decisions_[i].device.empty()) manifest.storages[i].device = std::move(decisions_[i].device);
    }
    MoveWrappers(manifest);
    return std::move(mapped_);
  }

 private:
  struct Decision {
    std::string wanted;  // before the reader's devices were asked for; empty: not yet decided
    std::string device;
    std::string path;  // only where there are rules, which may contradict each other
  };

  // The storage a node itself refers to; kNoIndex also for one at meta, which nothing happens to.
  StorageIndex StorageOf(NodeIndex index) const {
    const Node& node = manifest_.nodes[index];
    StorageIndex storage = kNoIndex;
    if (node.kind == NodeKind::kStorage) storage = static_cast<StorageIndex>(node.integer);
    if (node.tensor != kNoIndex) storage = manifest_.tensors[node.tensor].storage;
    return storage == kNoIndex || IsMetaDevice(manifest_.storages[storage].device) ? kNoIndex : storage;
  }

  // A tensor that wraps others (DTensor) says its device once more, among its constructor's arguments: it follows the
  // first tensor that it wraps, as with torch.load.
  void MoveWrappers(Manifest& manifest) const {
    std::vector<StorageIndex> first_of(manifest.nodes.size(), kNoIndex);
    for (NodeIndex i = 0; i < manifest.nodes.size(); ++i) {
      const Node& node = manifest.nodes[i];
      first_of[i] = StorageOf(i);
      for (const NodeIndex child : node.children) {
        if (first_of[i] == kNoIndex) first_of[i] = first_of[child];
      }
      if (node.kind != NodeKind::kTensorSubclass || first_of[i] == kNoIndex) continue;
      const std::vector<NodeIndex>& arguments = manifest.nodes[node.children[0]].children;
      if (arguments.size() != kWrapperArguments) continue;
      Node& device = manifest.nodes[arguments[kWrapperDevice]];
      if (device.kind == NodeKind::kDevice) device.text = manifest.storages[first_of[i]].device;
    }
  }

  absl::Status Found(absl::string_view path, StorageIndex storage, size_t rule) {
    const std::string& tag = manifest_.storages[storage].device;
    Decision& decision = decisions_[storage];
    const DeviceRule* ruled = rule == PatternSet::kNoPattern ? nullptr : &mapping_.rules[rule];
    if (decision.wanted.empty()) {
      decision.wanted = ruled != nullptr ? ruled->device : WithoutRule(tag);
      if (!mapping_.rules.empty()) decision.path = std::string(path.substr(0, kMaxShownPathBytes));
      const bool fell_back = !available_.Has(decision.wanted);
      if (fell_back && mapping_.fallback.empty()) return available_.Unavailable(decision.wanted, path);
      decision.device = fell_back ? mapping_.fallback : decision.wanted;
      if (decision.device != tag || fell_back) Count(path, storage, decision.device, fell_back);
      return absl::OkStatus();
    }
    if (ruled == nullptr || ruled->device == decision.wanted) return absl::OkStatus();
    return MakeError(
        Reason::DEVICE_RULE_SPLITS_STORAGE,
        absl::StrCat(Quoted(decision.path), " and ", Quoted(path), " share one storage, but the first goes to ",
                     decision.wanted, " and the rule ", Quoted(ruled->pattern), " sends the second to ", ruled->device,
                     "; give both the same device"),
        {{"path", decision.path.substr(0, 200)}, {"other_path", std::string(path.substr(0, 200))}});
  }

  std::string WithoutRule(const std::string& tag) const {
    const auto it = remap_.find(tag);
    if (it != remap_.end()) return it->second;
    return mapping_.device.empty() ? tag : mapping_.device;
  }

  void Count(absl::string_view path, StorageIndex storage, const std::string& to, bool fell_back) {
    const std::string& from = manifest_.storages[storage].device;
    const auto [it, added] = rows_.emplace(std::make_tuple(from, to, fell_back), mapped_.size());
    if (added) mapped_.push_back({from, to, fell_back, 0, 0, std::string(path.substr(0, kMaxShownPathBytes))});
    ++mapped_[it->second].storages;
    mapped_[it->second].bytes += manifest_.storages[storage].size_bytes;
  }

  const DeviceMapping& mapping_;
  const Manifest& manifest_;
  const AvailableDevices available_;
  absl::flat_hash_map<std::string, std::string> remap_;

  std::vector<Decision> decisions_;
  std::vector<MappedDevice> mapped_;
  std::map<std::tuple<std::string, std::string, bool>, size_t> rows_;  // to indices of mapped_
};

}  // namespace

absl::StatusOr<std::vector<MappedDevice>> MapDevices(const DeviceMapping& mapping, Manifest& manifest) {
  if (mapping.empty()) return std::vector<MappedDevice>();
  SCONCE_RETURN_IF_ERROR(ValidateMapping(mapping));
  std::vector<std::string> patterns;
  for (const DeviceRule& rule : mapping.rules) patterns.push_back(rule.pattern);
  SCONCE_ASSIGN_OR_RETURN(const PatternSet rules, PatternSet::Compile(patterns));
  Mapper mapper(mapping, manifest);
  SCONCE_RETURN_IF_ERROR(mapper.Decide(rules));
  return std::move(mapper).Apply(manifest);
}

}  // namespace sconce::format
