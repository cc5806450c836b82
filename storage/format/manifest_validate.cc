// Validate: holds every rule of manifest.h and docs/formats/manifest.md against a manifest that may come from anybody.
// Nothing here recurses, and nothing looks at a shared node's content once per use: time stays linear however often
// nodes are shared.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/byte_codec.h"
#include "storage/format/composite_rules.h"
#include "storage/format/manifest.h"
#include "storage/format/node_layout.h"
#include "storage/format/utf8.h"
#include "storage/format/value_key.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxTagBytes = 64;

absl::Status Invalid(absl::string_view message) {
  return MakeError(Reason::MANIFEST_INVALID, absl::StrCat("manifest is not valid: ", message));
}

bool IsTag(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxTagBytes && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
}

bool IsZero(double value) {
  return value == 0 && !std::signbit(value);
}

class Validator {
 public:
  explicit Validator(const Manifest& manifest) : manifest_(manifest), nodes_(manifest.nodes) {}

  absl::Status Run() {
    if (nodes_.empty()) return Invalid("it has no nodes, not even a root");
    if (std::max({nodes_.size(), manifest_.tensors.size(), manifest_.storages.size()}) > kMaxNodes) {
      return MakeError(
          Reason::INPUT_LIMIT_EXCEEDED,
          absl::StrCat("the manifest has ", nodes_.size(), " nodes, ", manifest_.tensors.size(), " tensors and ",
                       manifest_.storages.size(), " storages; at most ", kMaxNodes, " of each are accepted"));
    }
    storage_used_.assign(manifest_.storages.size(), false);
    tensor_used_.assign(manifest_.tensors.size(), false);
    node_used_.assign(nodes_.size(), false);
    is_value_.assign(nodes_.size(), false);
    holds_values_.assign(nodes_.size(), false);
    key_id_.assign(nodes_.size(), 0);
    SCONCE_RETURN_IF_ERROR(Storages());
    SCONCE_RETURN_IF_ERROR(Tensors());
    SCONCE_RETURN_IF_ERROR(Nodes());
    return EverythingIsUsed();
  }

 private:
  absl::Status Storages() {
    int64_t total = 0;
    size_t with_chunks = 0;
    size_t bulk = 0;
    for (size_t i = 0; i < manifest_.storages.size(); ++i) {
      const Storage& storage = manifest_.storages[i];
      const auto bad = [&](absl::string_view what) { return Invalid(absl::StrCat("storage ", i, ": ", what)); };
      if (storage.size_bytes < 0) return bad("negative size");
      if (!IsTag(storage.device)) return bad("the device tag is not 1 to 64 printable ASCII characters");
      const bool is_bulk = IsBulk(storage);
      const bool is_inline = !is_bulk && !IsMetaDevice(storage.device);
      if (storage.inline_bytes.size() != (is_inline ? static_cast<size_t>(storage.size_bytes) : 0)) {
        return bad(absl::StrCat("size ", storage.size_bytes, " on ", storage.device, " with ",
                                storage.inline_bytes.size(), " inline bytes"));
      }
      if (!storage.chunks.empty() &&
          (!is_bulk || storage.chunks.size() != static_cast<size_t>(ChunkCount(storage.size_bytes)))) {
        return bad(absl::StrCat("size ", storage.size_bytes, " with ", storage.chunks.size(), " chunks"));
      }
      bulk += is_bulk ? 1 : 0;
      with_chunks += storage.chunks.empty() ? 0 : 1;
      if (!IsMetaDevice(storage.device) && __builtin_add_overflow(total, storage.size_bytes, &total))
        return bad("all together have more than 2^63 bytes");
    }
    if (with_chunks != 0 && with_chunks != bulk) return Invalid("some storages have their chunks and some have not");
    return absl::OkStatus();
  }

  absl::Status Tensors() {
    for (size_t i = 0; i < manifest_.tensors.size(); ++i) {
      const TensorView& view = manifest_.tensors[i];
      const auto bad = [&](absl::string_view what) { return Invalid(absl::StrCat("tensor ", i, ": ", what)); };
      if (!DTypeFromNumber(static_cast<uint8_t>(view.dtype)).has_value()) return bad("unknown dtype");
      if (view.conjugate && !IsComplex(view.dtype)) return bad("conjugate, and its dtype is not complex");
      if (view.shape.size() > kMaxRank) return bad("more than 64 dimensions");
      const int64_t end = ViewEndBytes(view);
      if (end < 0) return bad("shape, stride and offset are negative, of different length or overflow 64 bits");
      if (view.storage == kNoIndex) continue;
      if (view.storage >= manifest_.storages.size()) return bad("no such storage");
      storage_used_[view.storage] = true;
      if (end > manifest_.storages[view.storage].size_bytes) {
        return bad(absl::StrCat("reaches to byte ", end, " of storage ", view.storage, ", which has ",
                                manifest_.storages[view.storage].size_bytes));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Nodes() {
    size_t edges = 0;
    size_t text = 0;
    for (const Node& node : nodes_) {
      edges += node.children.size();
      text += node.text.size();
    }
    key_budget_ = (size_t{1} << 20) + 64 * (edges + nodes_.size()) + 4 * text;
    for (NodeIndex i = 0; i < nodes_.size(); ++i) {
      if (static_cast<uint8_t>(nodes_[i].kind) > kLastNodeKind)
        return Invalid(absl::StrCat("node ", i, ": unknown kind"));
      SCONCE_RETURN_IF_ERROR(Fields(i));
      SCONCE_RETURN_IF_ERROR(References(i));
      SCONCE_RETURN_IF_ERROR(Content(i));
    }
    return absl::OkStatus();
  }

  absl::Status Bad(NodeIndex i, absl::string_view what) const {
    return Invalid(absl::StrCat("node ", i, " (", TypeName(nodes_[i].kind), "): ", what));
  }

  // What the kind does not use is zero or empty: else two manifests that mean the same would differ.
  absl::Status Fields(NodeIndex i) const {
    const Node& node = nodes_[i];
    const NodeLayout layout = LayoutOf(node.kind);
    const bool integer = layout.payload == Payload::kFlag || layout.payload == Payload::kInt || layout.storage;
    const bool text = layout.payload == Payload::kText || layout.payload == Payload::kInt;
    const bool real = layout.payload == Payload::kReal || layout.payload == Payload::kComplex;
    if ((!integer && node.integer != 0) || (!text && !node.text.empty()) || (!real && !IsZero(node.real)) ||
        (layout.payload != Payload::kComplex && !IsZero(node.imaginary)) ||
        (!layout.children && !node.children.empty()) || (!layout.tensor && node.tensor != kNoIndex)) {
      return Bad(i, "a field is set that this kind does not have");
    }
    if (layout.payload == Payload::kFlag && (node.integer & ~int64_t{1}) != 0) return Bad(i, "neither false nor true");
    return absl::OkStatus();
  }

  absl::Status References(NodeIndex i) {
    const Node& node = nodes_[i];
    const NodeLayout layout = LayoutOf(node.kind);
    if (layout.tensor) {
      if (node.tensor >= manifest_.tensors.size()) return Bad(i, "no such tensor");
      if (tensor_used_[node.tensor]) return Bad(i, "its tensor is already another node's; share the node");
      tensor_used_[node.tensor] = true;
    }
    if (layout.storage) {
      if (node.integer < 0 || node.integer >= static_cast<int64_t>(manifest_.storages.size())) {
        return Bad(i, "no such storage");
      }
      storage_used_[node.integer] = true;
    }
    bool children_are_values = true;
    for (const NodeIndex child : node.children) {
      if (child >= i) return Bad(i, absl::StrCat("child ", child, " does not come before it"));
      node_used_[child] = true;
      children_are_values = children_are_values && is_value_[child];
    }
    is_value_[i] = CanBeValue(node.kind) && children_are_values;
    if (node.kind == NodeKind::kList) holds_values_[i] = children_are_values;
    if (node.kind == NodeKind::kObject) {
      is_value_[i] = CanBeValueObject(nodes_, node) && is_value_[node.children[1]] && holds_values_[node.children[2]];
    }
    return absl::OkStatus();
  }

  absl::Status Content(NodeIndex i) {
    const Node& node = nodes_[i];
    switch (node.kind) {
      case NodeKind::kInt:
        if (node.text.empty()) break;
        if (node.integer != 0 || node.text.size() <= 8 || !IsShortestInt(node.text)) {
          return Bad(i, "a number written longer than needed");
        }
        break;
      case NodeKind::kStr:
        if (!IsUtf8(node.text, /*allow_surrogates=*/true)) return Bad(i, "not UTF-8");
        break;
      case NodeKind::kDtype:
        if (!IsDTypeName(node.text)) return Bad(i, "unknown dtype");
        break;
      case NodeKind::kStorage:
        if (node.text != "untyped" && !IsDTypeName(node.text)) return Bad(i, "unknown dtype");
        break;
      case NodeKind::kDevice:
      case NodeKind::kLayout:
      case NodeKind::kQScheme:
        if (!IsTag(node.text)) return Bad(i, "not 1 to 64 printable ASCII characters");
        break;
      case NodeKind::kSet:
        return Set(i);
      case NodeKind::kDict:
      case NodeKind::kOrderedDict:
      case NodeKind::kCounter:
        return Dict(i);
      default:
        if (const absl::string_view problem = ProblemOfComposite(manifest_, i); !problem.empty())
          return Bad(i, problem);
    }
    return absl::OkStatus();
  }

  static bool IsDTypeName(absl::string_view text) {
    const std::optional<DType> dtype = ParseDType(text);
    return dtype.has_value() && DTypeName(*dtype) == text;
  }

  absl::Status Set(NodeIndex i) {
    std::string previous;
    std::string key;
    for (const NodeIndex child : nodes_[i].children) {
      if (!is_value_[child]) return Bad(i, absl::StrCat("a ", TypeName(nodes_[child].kind), " cannot be in a set"));
      SCONCE_RETURN_IF_ERROR(ValueKey(child, key));
      if (child != nodes_[i].children.front() && key <= previous)
        return Bad(i, "the elements are not in ascending order");
      previous.swap(key);
    }
    return absl::OkStatus();
  }

  // The key of a value; all calls together may write key_budget_ bytes.
  absl::Status ValueKey(NodeIndex node, std::string& key) {
    key.clear();
    if (!AppendValueKey(nodes_, node, key_budget_, key)) return KeysTooLarge();
    key_budget_ -= key.size();
    return absl::OkStatus();
  }

  static absl::Status KeysTooLarge() {
    return MakeError(Reason::INPUT_LIMIT_EXCEEDED, "the tuples in this checkpoint's sets and keys are too large");
  }

  absl::Status Dict(NodeIndex i) {
    const Node& node = nodes_[i];
    const bool odd = node.children.size() % 2 != 0;
    if (odd && (node.kind != NodeKind::kOrderedDict || nodes_[node.children.back()].kind != NodeKind::kDict)) {
      return Bad(i, "a key without a value");
    }
    for (size_t at = 0; at + 1 < node.children.size(); at += 2) {
      const NodeIndex key = node.children[at];
      if (!is_value_[key]) return Bad(i, absl::StrCat("a ", TypeName(nodes_[key].kind), " cannot be a key"));
      if (key_id_[key] == 0) SCONCE_RETURN_IF_ERROR(GiveKeyId(key));
      if (last_dict_with_key_[key_id_[key]] == i + uint64_t{1}) return Bad(i, "two keys are equal");
      last_dict_with_key_[key_id_[key]] = i + uint64_t{1};
    }
    return absl::OkStatus();
  }

  // Keys that Python takes for equal get the same number, once per node, so that comparing keys is comparing numbers.
  absl::Status GiveKeyId(NodeIndex node) {
    std::string key;
    if (!AppendDictKey(nodes_, node, key_budget_, key)) return KeysTooLarge();
    key_budget_ -= key.size();
    if (IsNanKey(nodes_[node])) absl::StrAppend(&key, "#", node);
    const auto [it, added] = key_ids_.emplace(std::move(key), static_cast<uint32_t>(last_dict_with_key_.size()));
    if (added) last_dict_with_key_.push_back(0);
    key_id_[node] = it->second;
    return absl::OkStatus();
  }

  // With children before parents, every node but the last being somebody's child makes the last one the root of all.
  absl::Status EverythingIsUsed() const {
    for (NodeIndex i = 0; i + 1 < nodes_.size(); ++i) {
      if (!node_used_[i]) return Bad(i, "nothing refers to it");
    }
    for (size_t i = 0; i < tensor_used_.size(); ++i) {
      if (!tensor_used_[i]) return Invalid(absl::StrCat("tensor ", i, ": nothing refers to it"));
    }
    for (size_t i = 0; i < storage_used_.size(); ++i) {
      if (!storage_used_[i]) return Invalid(absl::StrCat("storage ", i, ": nothing refers to it"));
    }
    return absl::OkStatus();
  }

  const Manifest& manifest_;
  const std::vector<Node>& nodes_;
  std::vector<bool> storage_used_;
  std::vector<bool> tensor_used_;
  std::vector<bool> node_used_;
  std::vector<bool> is_value_;
  std::vector<bool> holds_values_;  // lists that have nothing else
  size_t key_budget_ = 0;

  // Dict keys: a number per distinct key (0: not given yet), and the dict (plus one) it was last seen in.
  std::vector<uint32_t> key_id_;
  absl::flat_hash_map<std::string, uint32_t> key_ids_;
  std::vector<uint64_t> last_dict_with_key_ = {0};
};

}  // namespace

absl::Status Validate(const Manifest& manifest) {
  return Validator(manifest).Run();
}

}  // namespace sconce::format
