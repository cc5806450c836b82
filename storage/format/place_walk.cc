#include "storage/format/place_walk.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/status_macros.h"
#include "storage/format/path.h"

namespace sconce::format {
namespace {

using Visit = absl::FunctionRef<absl::Status(absl::string_view path, NodeIndex node, size_t rule)>;

class PlaceWalker final : public TreeVisitor {
 public:
  PlaceWalker(const Manifest& manifest, const PatternSet& rules, const std::vector<size_t>& outcomes,
              absl::FunctionRef<bool(NodeIndex)> wanted, Visit visit)
      : nodes_(manifest.nodes),
        rules_(rules),
        outcomes_(outcomes),
        visit_(visit),
        wanted_(nodes_.size()),
        leads_to_wanted_(nodes_.size()) {
    for (NodeIndex i = 0; i < nodes_.size(); ++i) {
      const std::vector<NodeIndex>& children = nodes_[i].children;
      wanted_[i] = wanted(i);
      leads_to_wanted_[i] = wanted_[i] || std::any_of(children.begin(), children.end(),
                                                      [&](NodeIndex child) { return leads_to_wanted_[child]; });
    }
  }

  Walk Enter(absl::string_view path, NodeIndex node) override {
    const size_t above = literals_.empty() ? PatternSet::kNoPattern : literals_.back();
    const size_t literal = std::min(above, rules_.FindLiteral(path));
    const size_t rule = std::min(literal, rules_.FindGlob(path, literal));
    const bool has_paths = HasPathsBelow(nodes_[node].kind);
    if (!has_paths) {
      status_ = Parts(path, node, rule);
    } else if (nodes_[node].kind == NodeKind::kOrderedDict && nodes_[node].children.size() % 2 != 0) {
      status_ = Parts(path, nodes_[node].children.back(), rule);
    }
    if (!status_.ok()) return Walk::kStop;
    if (!has_paths) return Walk::kDescend;
    if (!leads_to_wanted_[node] || (rules_.empty() && !entered_.insert(node).second)) return Walk::kSkipChildren;
    literals_.push_back(literal);
    return Walk::kDescend;
  }

  void Leave(absl::string_view, NodeIndex) override { literals_.pop_back(); }

  const absl::Status& status() const { return status_; }

 private:
  // The wanted ones among `root` and what it is made of.
  absl::Status Parts(absl::string_view path, NodeIndex root, size_t rule) {
    const size_t outcome = rule == PatternSet::kNoPattern ? 0 : outcomes_[rule];
    std::vector<NodeIndex> pending = {root};
    while (!pending.empty()) {
      const NodeIndex node = pending.back();
      pending.pop_back();
      if (!leads_to_wanted_[node] || !looked_at_.emplace(node, outcome).second) continue;
      if (wanted_[node]) SCONCE_RETURN_IF_ERROR(visit_(path, node, rule));
      const std::vector<NodeIndex>& children = nodes_[node].children;
      pending.insert(pending.end(), children.rbegin(), children.rend());
    }
    return absl::OkStatus();
  }

  const std::vector<Node>& nodes_;
  const PatternSet& rules_;
  const std::vector<size_t>& outcomes_;
  const Visit visit_;
  std::vector<bool> wanted_;           // for each node
  std::vector<bool> leads_to_wanted_;  // or to itself

  std::vector<size_t> literals_;  // for each container above: the first rule without wildcards at or above it
  absl::flat_hash_set<NodeIndex> entered_;
  absl::flat_hash_set<std::pair<NodeIndex, size_t>> looked_at_;  // for which outcome
  absl::Status status_;
};

}  // namespace

absl::Status WalkPlaces(const Manifest& manifest, const PatternSet& rules, const std::vector<size_t>& outcomes,
                        absl::FunctionRef<bool(NodeIndex node)> wanted, Visit visit) {
  PlaceWalker walker(manifest, rules, outcomes, wanted, visit);
  SCONCE_RETURN_IF_ERROR(WalkTree(manifest, manifest.root(), walker));
  return walker.status();
}

}  // namespace sconce::format
