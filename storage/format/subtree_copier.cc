#include "storage/format/subtree_copier.h"

#include <utility>

namespace sconce::format {

NodeIndex NodeCopier::Copy(NodeIndex root) {
  std::vector<NodeIndex> pending = {root};
  while (!pending.empty()) {
    const NodeIndex index = pending.back();
    if (copies_[index] != kNoIndex) {
      pending.pop_back();
      continue;
    }
    const Node& original = from_.nodes[index];
    const size_t before = pending.size();
    for (size_t i = original.children.size(); i-- > 0;) {
      if (copies_[original.children[i]] == kNoIndex) pending.push_back(original.children[i]);
    }
    if (pending.size() != before) continue;  // children first
    Node node = original;
    for (NodeIndex& child : node.children) child = copies_[child];
    copies_[index] = CopyOne(std::move(node));
    pending.pop_back();
  }
  return copies_[root];
}

// The children are numbers of the new manifest already; tensor and storage are not.
NodeIndex NodeCopier::CopyOne(Node node) {
  if (node.tensor != kNoIndex) {
    tensors_.push_back(from_.tensors[node.tensor]);
    if (tensors_.back().storage != kNoIndex) tensors_.back().storage += first_storage_;
    node.tensor = static_cast<TensorIndex>(tensors_.size() - 1);
  }
  if (node.kind == NodeKind::kStorage) node.integer += first_storage_;
  nodes_.push_back(std::move(node));
  return static_cast<NodeIndex>(nodes_.size() - 1);
}

NodeIndex SubtreeCopier::Add(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<NodeIndex>(nodes_.size() - 1);
}

Selected SubtreeCopier::Finish() {
  Selected selected;
  selected.manifest.nodes = std::move(nodes_);
  selected.manifest.tensors = std::move(tensors_);
  selected.manifest.derived = true;
  MoveStorages(selected);
  return selected;
}

// Tensors and bare storages still say the original's storage numbers.
void SubtreeCopier::MoveStorages(Selected& selected) const {
  Manifest& to = selected.manifest;
  std::vector<StorageIndex> moved(from_.storages.size(), kNoIndex);
  for (const TensorView& view : to.tensors) {
    if (view.storage != kNoIndex) moved[view.storage] = 0;
  }
  for (const Node& node : to.nodes) {
    if (node.kind == NodeKind::kStorage) moved[node.integer] = 0;
  }
  for (StorageIndex i = 0; i < moved.size(); ++i) {
    if (moved[i] == kNoIndex) continue;
    moved[i] = static_cast<StorageIndex>(to.storages.size());
    to.storages.push_back(from_.storages[i]);
    selected.source.push_back(i);
  }
  for (TensorView& view : to.tensors) {
    if (view.storage != kNoIndex) view.storage = moved[view.storage];
  }
  for (Node& node : to.nodes) {
    if (node.kind == NodeKind::kStorage) node.integer = moved[node.integer];
  }
}

}  // namespace sconce::format
