#ifndef SCONCE_STORAGE_FORMAT_SUBTREE_COPIER_H_
#define SCONCE_STORAGE_FORMAT_SUBTREE_COPIER_H_

#include <vector>

#include "storage/format/manifest.h"
#include "storage/format/selection.h"

namespace sconce::format {

// Copies parts of a manifest into the tables of a new one. What is copied keeps its sharing of nodes and storages. Not
// recursive, linear in what is copied.
class NodeCopier {
 public:
  // `from` is valid; all three are borrowed. `first_storage` is added to the storages' numbers.
  NodeCopier(const Manifest& from, std::vector<Node>& nodes, std::vector<TensorView>& tensors,
             StorageIndex first_storage = 0)
      : from_(from), nodes_(nodes), tensors_(tensors), first_storage_(first_storage) {
    copies_.assign(from.nodes.size(), kNoIndex);
  }

  // A node of `from` with all that it refers to, as it is. The same node again is the same copy.
  NodeIndex Copy(NodeIndex root);

 private:
  NodeIndex CopyOne(Node node);

  const Manifest& from_;
  std::vector<Node>& nodes_;
  std::vector<TensorView>& tensors_;
  const StorageIndex first_storage_;
  std::vector<NodeIndex> copies_;  // by original
};

// Makes a new manifest out of parts of another: what is copied keeps its sharing, of nodes and of storages, and only
// the storages that are still referred to come along, in their order. Not recursive, linear in what is copied.
class SubtreeCopier {
 public:
  // `from` is borrowed and valid.
  explicit SubtreeCopier(const Manifest& from) : from_(from), copier_(from, nodes_, tensors_) {}

  // A new node, whose children are nodes of the new manifest.
  NodeIndex Add(Node node);
  NodeIndex Copy(NodeIndex root) { return copier_.Copy(root); }
  // The manifest of all that was added; the node added last is its root, and every other one must be below it. Marked
  // derived. To be called once.
  Selected Finish();

 private:
  void MoveStorages(Selected& selected) const;

  const Manifest& from_;
  std::vector<Node> nodes_;
  std::vector<TensorView> tensors_;
  NodeCopier copier_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SUBTREE_COPIER_H_
