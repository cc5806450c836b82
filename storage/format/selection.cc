// One walk over the paths under the root. Each place gets the new node it becomes, or none; a container is made when
// its last child has been seen. Two places that share a node in the original share one in the result exactly when the
// same children are left of it: nodes are looked up by (original, new children).

#include "storage/format/selection.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/node_layout.h"
#include "storage/format/path.h"
#include "storage/format/pattern_set.h"
#include "storage/format/subtree_copier.h"

namespace sconce::format {
namespace {

// What include decides about: everything that has a storage. The rest are scalars, which stay.
bool IsData(NodeKind kind) {
  return IsTensorKind(kind) || kind == NodeKind::kNumpyArray || kind == NodeKind::kStorage;
}

class Selector final : public TreeVisitor {
 public:
  Selector(const Manifest& manifest, const PatternSet& include, const PatternSet& exclude)
      : from_(manifest), include_(include), exclude_(exclude), copier_(manifest) {
    frames_.emplace_back();  // above the root
  }

  Walk Enter(absl::string_view path, NodeIndex node) override {
    if (!path.empty() &&
        (exclude_.FindLiteral(path) != PatternSet::kNoPattern || exclude_.FindGlob(path) != PatternSet::kNoPattern)) {
      frames_.back().children.push_back(kNoIndex);
      return Walk::kSkipChildren;
    }
    const bool below_literal = FindLiteralInclude(path) || frames_.back().below_literal;
    const bool included = FindGlobInclude(path) || below_literal;
    const NodeKind kind = from_.nodes[node].kind;
    if (HasPathsBelow(kind)) {
      frames_.emplace_back();
      frames_.back().below_literal = below_literal;
    } else {
      const bool keep = include_.empty() || included || !IsData(kind) || path.empty();
      frames_.back().children.push_back(keep ? copier_.Copy(node) : kNoIndex);
    }
    return Walk::kDescend;
  }

  void Leave(absl::string_view path, NodeIndex node) override {
    const std::vector<NodeIndex> children = std::move(frames_.back().children);
    frames_.pop_back();
    const bool lost_all = !children.empty() && std::all_of(children.begin(), children.end(),
                                                           [](NodeIndex child) { return child == kNoIndex; });
    frames_.back().children.push_back(lost_all && !path.empty() ? kNoIndex : Container(node, children));
  }

  // The patterns without effect; to be called after the walk.
  absl::Status CheckIncludesUsed(const std::vector<std::string>& patterns) const {
    std::vector<size_t> unused;
    for (const auto& [pattern, number] : include_.literals()) {
      if (!used_literals_.contains(number)) unused.push_back(number);
    }
    for (size_t i = 0; i < include_.globs().size(); ++i) {
      if (!used_globs_[i]) unused.push_back(include_.globs()[i].first);
    }
    if (unused.empty()) return absl::OkStatus();
    const std::string& pattern = patterns[*std::min_element(unused.begin(), unused.end())];
    return MakeError(Reason::PATH_NOT_FOUND,
                     absl::StrCat("the include pattern ", Quoted(pattern), " matches nothing",
                                  exclude_.empty() ? "" : " that is not excluded",
                                  "; list the checkpoint to see which paths it has"),
                     {{"pattern", pattern.substr(0, 200)}});
  }

  Selected Finish() { return copier_.Finish(); }

 private:
  struct Frame {
    bool below_literal = false;       // at or below an include pattern without wildcards
    std::vector<NodeIndex> children;  // what became of each child; kNoIndex: dropped
  };

  bool FindLiteralInclude(absl::string_view path) {
    const size_t number = include_.FindLiteral(path);
    if (number == PatternSet::kNoPattern) return false;
    used_literals_.insert(number);
    return true;
  }

  bool FindGlobInclude(absl::string_view path) {
    used_globs_.resize(include_.globs().size());
    bool matched = false;
    for (size_t i = 0; i < include_.globs().size(); ++i) {
      if (matched && used_globs_[i]) continue;  // nothing to learn from it
      if (!include_.globs()[i].second.Matches(path)) continue;
      matched = used_globs_[i] = true;
    }
    return matched;
  }

  NodeIndex Container(NodeIndex index, const std::vector<NodeIndex>& places) {
    const Node& original = from_.nodes[index];
    const bool is_sequence = original.kind == NodeKind::kList || original.kind == NodeKind::kTuple;
    std::vector<NodeIndex> children;
    for (size_t i = 0; i < places.size(); ++i) {
      if (is_sequence) {
        children.push_back(places[i] != kNoIndex ? places[i] : NoneNode());
      } else if (places[i] != kNoIndex) {
        children.push_back(copier_.Copy(original.children[2 * i]));
        children.push_back(places[i]);
      }
    }
    if (!is_sequence && original.children.size() % 2 != 0) children.push_back(copier_.Copy(original.children.back()));
    const auto [it, added] = containers_.emplace(std::make_pair(index, std::move(children)), kNoIndex);
    if (added) {
      Node node;
      node.kind = original.kind;
      node.children = it->first.second;
      it->second = copier_.Add(std::move(node));
    }
    return it->second;
  }

  NodeIndex NoneNode() {
    if (none_ == kNoIndex) none_ = copier_.Add(Node());
    return none_;
  }

  const Manifest& from_;
  const PatternSet& include_;
  const PatternSet& exclude_;
  SubtreeCopier copier_;
  absl::flat_hash_map<std::pair<NodeIndex, std::vector<NodeIndex>>, NodeIndex> containers_;
  std::vector<Frame> frames_;
  NodeIndex none_ = kNoIndex;
  absl::flat_hash_set<size_t> used_literals_;
  std::vector<bool> used_globs_;
};

}  // namespace

absl::StatusOr<Selected> Select(const Manifest& manifest, const Selection& selection) {
  if (selection.empty()) {
    Selected all;
    all.manifest = manifest;
    for (StorageIndex i = 0; i < manifest.storages.size(); ++i) all.source.push_back(i);
    return all;
  }
  SCONCE_ASSIGN_OR_RETURN(const NodeIndex root, FindPath(manifest, selection.root));
  SCONCE_ASSIGN_OR_RETURN(const PatternSet include, PatternSet::Compile(selection.include));
  SCONCE_ASSIGN_OR_RETURN(const PatternSet exclude, PatternSet::Compile(selection.exclude));
  Selector selector(manifest, include, exclude);
  SCONCE_RETURN_IF_ERROR(WalkTree(manifest, root, selector));
  SCONCE_RETURN_IF_ERROR(selector.CheckIncludesUsed(selection.include));
  return selector.Finish();
}

}  // namespace sconce::format
