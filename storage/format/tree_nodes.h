#ifndef SCONCE_STORAGE_FORMAT_TREE_NODES_H_
#define SCONCE_STORAGE_FORMAT_TREE_NODES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"
#include "storage/format/pickle_keys.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/torch_tensors.h"
#include "storage/format/torch_values.h"

namespace sconce::format {

// A node with children that is being made.
struct TreeFrame {
  // In `todo`, beside values of the pickle: a node that exists already (this bit and its index), and, for a tensor
  // subclass, what the function that it names makes.
  static constexpr uint32_t kReady = uint32_t{1} << 31;
  static constexpr uint32_t kInnerCall = UINT32_MAX;

  PickleIndex value = PickleGraph::kAbsent;  // what it is made from; absent for an inner call
  NodeKind kind = NodeKind::kNone;
  bool flag = false;  // kParameter: requires_grad
  PickleGlobal type;  // kTensorSubclass, kObject: the class
  TensorIndex tensor = kNoIndex;
  std::vector<uint32_t> todo;  // the children, in order
  std::vector<NodeIndex> children;
};

// Says which node a value with children becomes, and what its children are; and makes the node once they are there.
// What Python's containers and PyTorch's and numpy's functions do with their arguments is known here, and only here.
// Borrows everything.
class TreeNodes {
 public:
  TreeNodes(const PickleGraph& graph, TorchValues& values, TorchTensors& tensors, Manifest& manifest)
      : graph_(graph), values_(values), tensors_(tensors), keys_(graph), manifest_(manifest) {}

  // Fills in the frame for a list, tuple, set, dict, or call that is no scalar and no strided tensor.
  absl::Status Open(PickleIndex value, TreeFrame& frame);
  // The same for function(*args) without a value of its own.
  absl::Status OpenCall(PickleTag function, absl::Span<const PickleIndex> args, TreeFrame& frame);
  // Adds the node of a frame whose children are complete; FILE_MALFORMED when they are not what the kind has.
  absl::StatusOr<NodeIndex> Close(TreeFrame& frame);
  // INPUT_LIMIT_EXCEEDED beyond kMaxNodes.
  absl::StatusOr<NodeIndex> Add(Node node);

 private:
  using Args = absl::Span<const PickleIndex>;

  absl::Status TakeDict(TreeFrame& frame, NodeKind kind, Args items);
  absl::Status TakeSet(TreeFrame& frame, Args elements);
  absl::Status OpenOrderedDict(PickleIndex value, TreeFrame& frame);
  absl::Status OpenParameter(PickleTag function, Args args, TreeFrame& frame);
  absl::Status OpenOldParameter(Args args, PickleIndex state, TreeFrame& frame);
  absl::Status OpenSparse(Args args, TreeFrame& frame);
  absl::Status OpenQuantized(Args args, TreeFrame& frame);
  absl::Status OpenSubclass(Args args, TreeFrame& frame);
  absl::Status CheckWrapper(PickleGlobal type, Args args);
  absl::Status OpenObject(PickleIndex value, TreeFrame& frame);
  // An object of a TorchScript class: its attributes.
  absl::Status OpenScriptObject(PickleIndex value, TreeFrame& frame);
  absl::Status OpenScriptContainer(PickleTag function, Args args, TreeFrame& frame);
  absl::Status OpenNumpyScalar(Args args, TreeFrame& frame);
  absl::Status OpenNumpyArray(PickleIndex value, TreeFrame& frame);
  // The elements of the container that a call takes as its one argument. They are read as part of the call, so each
  // counts.
  absl::StatusOr<Args> OnlyArgument(Args args, PickleValue::Kind kind);

  absl::Status AddReady(Node node, TreeFrame& frame);
  absl::Status AddNumpyDtype(PickleIndex dtype, TreeFrame& frame);
  absl::Status AddDims(NodeKind kind, PickleIndex tuple, TreeFrame& frame);

  const PickleGraph& graph_;
  TorchValues& values_;
  TorchTensors& tensors_;
  PickleKeys keys_;
  Manifest& manifest_;
  absl::flat_hash_map<std::string, NodeIndex> numpy_dtypes_;  // one node for each
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TREE_NODES_H_
