#include "storage/format/value_key.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "storage/format/node_layout.h"
#include "storage/format/pickle_globals.h"

namespace sconce::format {

bool CanBeValue(NodeKind kind) {
  switch (kind) {
    case NodeKind::kNone:
    case NodeKind::kBool:
    case NodeKind::kInt:
    case NodeKind::kFloat:
    case NodeKind::kComplex:
    case NodeKind::kStr:
    case NodeKind::kBytes:
    case NodeKind::kTuple:
    case NodeKind::kSize:
    case NodeKind::kDtype:
    case NodeKind::kDevice:
    case NodeKind::kLayout:
    case NodeKind::kQScheme:
    case NodeKind::kNumpyScalar:
    case NodeKind::kGlobal:
      return true;
    default:
      return false;
  }
}

bool CanBeValueObject(const std::vector<Node>& nodes, const Node& node) {
  if (node.kind != NodeKind::kObject || node.children.size() != 3) return false;
  if (nodes[node.children[0]].kind != NodeKind::kTuple || !nodes[node.children[0]].children.empty()) return false;
  const std::optional<PickleGlobal> type = FindGlobalByName(node.text);
  return type.has_value() && type->tag == PickleTag::kValueClass && nodes[node.children[2]].kind == NodeKind::kList;
}

bool AppendValueKey(const std::vector<Node>& nodes, NodeIndex node, size_t max_bytes, std::string& out) {
  std::vector<NodeIndex> pending = {node};
  NodeIndex state = kNoIndex;  // of the object met last: a list that is part of a value
  while (!pending.empty()) {
    const NodeIndex at = pending.back();
    const Node& current = nodes[at];
    pending.pop_back();
    const bool is_object = CanBeValueObject(nodes, current);
    // Every step appends at least one byte, so the limit also bounds the steps.
    if (!(CanBeValue(current.kind) || is_object || at == state) || out.size() + current.text.size() + 24 > max_bytes)
      return false;
    AppendLeafRecord(current, out);
    if (is_object) state = current.children[2];
    // What is still pending will cost at least one byte each.
    if (current.children.size() + pending.size() > max_bytes - out.size()) return false;
    pending.insert(pending.end(), current.children.rbegin(), current.children.rend());
  }
  return true;
}

bool AppendDictKey(const std::vector<Node>& nodes, NodeIndex node, size_t max_bytes, std::string& out) {
  if (!nodes[node].children.empty()) return AppendValueKey(nodes, node, max_bytes, out);
  Node plain = nodes[node];
  if (plain.kind == NodeKind::kBool) plain.kind = NodeKind::kInt;
  if (plain.kind == NodeKind::kComplex && plain.imaginary == 0) plain.kind = NodeKind::kFloat;
  if (plain.kind == NodeKind::kFloat && std::trunc(plain.real) == plain.real && std::fabs(plain.real) < 0x1p63) {
    plain.kind = NodeKind::kInt;
    plain.integer = static_cast<int64_t>(plain.real);
  }
  if (!CanBeValue(plain.kind) || plain.text.size() + 24 > max_bytes) return false;
  AppendLeafRecord(plain, out);
  return true;
}

bool IsNanKey(const Node& node) {
  return (node.kind == NodeKind::kFloat || (node.kind == NodeKind::kComplex && node.imaginary == 0)) &&
         std::isnan(node.real);
}

absl::Status SortSetElements(const std::vector<Node>& nodes, std::vector<NodeIndex>& elements) {
  constexpr size_t kMaxKeyBytes = size_t{1} << 20;  // of an element that is a tuple
  std::vector<std::pair<std::string, NodeIndex>> keyed;
  keyed.reserve(elements.size());
  for (const NodeIndex element : elements) {
    std::string key;
    if (!AppendValueKey(nodes, element, nodes[element].text.size() + kMaxKeyBytes, key)) {
      if (nodes[element].kind != NodeKind::kTuple) {
        return MakeError(Reason::FILE_UNSUPPORTED, absl::StrCat("a set holds a ", TypeName(nodes[element].kind),
                                                                ", which cannot be stored in a set"));
      }
      return MakeError(
          Reason::INPUT_LIMIT_EXCEEDED,
          "a tuple in a set is too large or holds what cannot be stored in a set; use a list instead of the set");
    }
    keyed.emplace_back(std::move(key), element);
  }
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  keyed.erase(std::unique(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first == b.first; }),
              keyed.end());
  elements.clear();
  for (const auto& [key, element] : keyed) elements.push_back(element);
  return absl::OkStatus();
}

}  // namespace sconce::format
