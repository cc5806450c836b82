#include "storage/format/state_dict.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/strings.h"
#include "storage/format/entries.h"
#include "storage/format/key_rules.h"
#include "storage/format/node_layout.h"
#include "storage/format/path.h"
#include "storage/format/subtree_copier.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxPlacesNamed = 5;
// A module's entry in `_metadata` is {'version': 2} and little more; what has more is not looked through.
constexpr size_t kMaxLocalMetadata = 64;

bool IsDict(NodeKind kind) {
  return kind == NodeKind::kDict || kind == NodeKind::kOrderedDict;
}

// Has a str key with a tensor, and no key that is no str.
bool LooksLikeStateDict(const Manifest& manifest, const Node& node) {
  if (!IsDict(node.kind)) return false;
  bool has_tensor = false;
  for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
    if (manifest.nodes[node.children[i]].kind != NodeKind::kStr) return false;
    has_tensor = has_tensor || IsTensorKind(manifest.nodes[node.children[i + 1]].kind);
  }
  return has_tensor;
}

absl::Status NoStateDict(const Manifest& manifest, absl::string_view where, absl::string_view why) {
  std::vector<std::string> places;
  if (HasPathsBelow(manifest.nodes[manifest.root()].kind)) {
    ForEachChild(manifest, manifest.root(), [&](absl::string_view segment, NodeIndex child) {
      if (LooksLikeStateDict(manifest, manifest.nodes[child])) places.push_back(absl::StrCat("/", segment));
      return places.size() < kMaxPlacesNamed;
    });
  }
  return MakeError(
      Reason::STATE_DICT_INVALID,
      absl::StrCat("what is at ", where.empty() ? "the root" : Quoted(where), " is no state_dict: ", why,
                   places.empty() ? std::string("; give the path of one, `sconce show` lists them")
                                  : absl::StrCat("; below it these look like one: ", absl::StrJoin(places, ", "))),
      {{"path", std::string(where.substr(0, 200))}});
}

// The value of a str key of a dict; kNoIndex.
NodeIndex Find(const Manifest& manifest, const Node& dict, absl::string_view key) {
  for (size_t i = 0; i + 1 < dict.children.size(); i += 2) {
    const Node& name = manifest.nodes[dict.children[i]];
    if (name.kind == NodeKind::kStr && name.text == ToStd(key)) return dict.children[i + 1];
  }
  return kNoIndex;
}

// The `_metadata` of an OrderedDict, when it is a dict; null.
const Node* MetadataOf(const Manifest& manifest, const Node& dict) {
  if (dict.children.size() % 2 == 0) return nullptr;
  const NodeIndex found = Find(manifest, manifest.nodes[dict.children.back()], "_metadata");
  return found != kNoIndex && IsDict(manifest.nodes[found].kind) ? &manifest.nodes[found] : nullptr;
}

Node StrNode(std::string text) {
  Node node;
  node.kind = NodeKind::kStr;
  node.text = std::move(text);
  return node;
}

Node DictNode(NodeKind kind, std::vector<NodeIndex> children) {
  Node node;
  node.kind = kind;
  node.children = std::move(children);
  return node;
}

}  // namespace

absl::string_view ModuleOfKey(absl::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == absl::string_view::npos ? absl::string_view() : key.substr(0, dot);
}

absl::StatusOr<StateDict> ReadStateDict(const Manifest& manifest, absl::string_view where) {
  const Node& dict = manifest.nodes[manifest.root()];
  if (!IsDict(dict.kind)) return NoStateDict(manifest, where, absl::StrCat("it is a ", TypeName(dict.kind)));
  StateDict result;
  bool has_tensor = false;
  absl::flat_hash_map<NodeIndex, size_t> described;  // a tensor may be named often, and take long to look at
  for (size_t i = 0; i + 1 < dict.children.size(); i += 2) {
    const Node& name = manifest.nodes[dict.children[i]];
    if (name.kind != NodeKind::kStr) {
      return NoStateDict(manifest, where, absl::StrCat("it has a key of type ", TypeName(name.kind)));
    }
    if (name.text.size() > kMaxKeyBytes) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       absl::StrCat("the key ", Quoted(name.text, 60), " ... is longer than ", kMaxKeyBytes, " bytes"));
    }
    SourceKey& key = result.keys.emplace_back();
    key.key = name.text;
    key.value = dict.children[i + 1];
    key.is_tensor = IsTensorKind(manifest.nodes[key.value].kind);
    if (!key.is_tensor) continue;
    has_tensor = true;
    const auto [first, is_new] = described.try_emplace(key.value, result.keys.size() - 1);
    if (is_new) {
      Entry entry = DescribeNode(manifest, key.value);
      key.dtype = std::move(entry.dtype);
      key.shape = std::move(entry.shape);
    } else {
      key.dtype = result.keys[first->second].dtype;
      key.shape = result.keys[first->second].shape;
    }
  }
  if (!has_tensor && !result.keys.empty()) return NoStateDict(manifest, where, "it has no tensors");
  const Node* metadata = MetadataOf(manifest, dict);
  for (size_t i = 0; metadata != nullptr && i + 1 < metadata->children.size(); i += 2) {
    const Node& module = manifest.nodes[metadata->children[i]];
    const Node& local = manifest.nodes[metadata->children[i + 1]];
    if (module.kind != NodeKind::kStr || !IsDict(local.kind) || local.children.size() > kMaxLocalMetadata) continue;
    const NodeIndex version = Find(manifest, local, "version");
    if (version == kNoIndex || manifest.nodes[version].kind != NodeKind::kInt) continue;
    result.versions.emplace(module.text, manifest.nodes[version].integer);
  }
  return result;
}

std::string PythonTypeText(const Manifest& manifest, NodeIndex index) {
  const auto text = [](absl::string_view name) { return absl::StrCat("<class '", name, "'>"); };
  const Node& node = manifest.nodes[index];
  switch (node.kind) {
    case NodeKind::kNone:
      return text("NoneType");
    case NodeKind::kOrderedDict:
      return text("collections.OrderedDict");
    case NodeKind::kCounter:
      return text("collections.Counter");
    case NodeKind::kSize:
    case NodeKind::kDtype:
    case NodeKind::kDevice:
    case NodeKind::kLayout:
    case NodeKind::kQScheme:
      return text(node.kind == NodeKind::kSize ? "torch.Size" : absl::StrCat("torch.", TypeName(node.kind)));
    case NodeKind::kNumpyArray:
      return text("numpy.ndarray");
    case NodeKind::kNumpyScalar:
      return text("numpy.generic");
    case NodeKind::kStorage:
      return text(node.text == "untyped" ? "torch.storage.UntypedStorage" : "torch.storage.TypedStorage");
    default:
      return text(TypeName(node.kind));  // as Python calls it: int, float, str, list ...
  }
}

Selected KeepKeys(const Manifest& manifest, const StateDict& state_dict, absl::Span<const KeptKey> kept) {
  SubtreeCopier copier(manifest);
  const Node& dict = manifest.nodes[manifest.root()];
  std::vector<NodeIndex> children;
  for (const KeptKey& key : kept) {
    children.push_back(copier.Add(StrNode(key.key)));
    children.push_back(copier.Copy(state_dict.keys[key.source].value));
  }
  const Node* metadata = MetadataOf(manifest, dict);
  if (metadata != nullptr) {
    absl::flat_hash_map<absl::string_view, NodeIndex> by_module;
    for (size_t i = 0; i + 1 < metadata->children.size(); i += 2) {
      const Node& module = manifest.nodes[metadata->children[i]];
      if (module.kind == NodeKind::kStr) by_module.emplace(module.text, metadata->children[i + 1]);
    }
    std::vector<NodeIndex> entries;
    absl::flat_hash_set<absl::string_view> done;
    for (const KeptKey& key : kept) {
      const auto found = by_module.find(ModuleOfKey(state_dict.keys[key.source].key));
      const absl::string_view module = ModuleOfKey(key.key);
      if (found == by_module.end() || !done.insert(module).second) continue;
      entries.push_back(copier.Add(StrNode(std::string(module))));
      entries.push_back(copier.Copy(found->second));
    }
    const NodeIndex name = copier.Add(StrNode("_metadata"));
    const NodeIndex value = copier.Add(DictNode(NodeKind::kOrderedDict, std::move(entries)));
    children.push_back(copier.Add(DictNode(NodeKind::kDict, {name, value})));
  }
  copier.Add(DictNode(dict.kind, std::move(children)));
  return copier.Finish();
}

}  // namespace sconce::format
