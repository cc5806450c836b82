#include "storage/format/torch_pickle.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/path.h"
#include "storage/format/pickle_globals.h"
#include "storage/format/pickle_writer.h"
#include "storage/format/torch_pickle_values.h"

namespace sconce::format {
namespace {

constexpr size_t kBatch = 1000;  // elements between a mark and the opcode that gathers them, as Python's pickler has it
constexpr PickleWriter::Memo kNoMemo = UINT32_MAX;
constexpr absl::string_view kNestedModule = "torch.nested._internal.nested_tensor";
constexpr absl::string_view kNestedClass = "NestedTensor";

// Writes the nodes depth first with a stack of its own: a node is begun, its children are written, it is ended.
class TreeWriter {
 public:
  TreeWriter(const Manifest& manifest, StorageBytes& bytes)
      : manifest_(manifest),
        values_(manifest, bytes, out_),
        memo_of_node_(manifest.nodes.size(), kNoMemo),
        is_shared_(manifest.nodes.size(), false) {}

  absl::StatusOr<TorchPickle> Write() {
    FindShared();
    if (const absl::Status walked = Walk(); !walked.ok()) {
      return HasReason(walked, Reason::FILE_UNSUPPORTED) ? Annotate(walked, Place()) : walked;
    }
    TorchPickle pickle;
    pickle.pickle = out_.Finish();
    pickle.inserts = values_.TakeInserts();
    pickle.storages = values_.TakeStorages();
    return pickle;
  }

 private:
  struct Frame {
    NodeIndex node = kNoIndex;
    absl::string_view new_type;  // as TorchPickleValues::Call has it; text of another node
    size_t next = 0;             // child to write, of those that ChildCount counts
    size_t count = 0;
  };

  void FindShared() {
    std::vector<bool> seen(manifest_.nodes.size(), false);
    for (const Node& node : manifest_.nodes) {
      for (const NodeIndex child : node.children) {
        is_shared_[child] = is_shared_[child] || seen[child];
        seen[child] = true;
      }
    }
  }

  absl::Status Walk() {
    SCONCE_RETURN_IF_ERROR(Begin(manifest_.root(), ""));
    while (!frames_.empty()) {
      Frame& top = frames_.back();
      const Node& node = manifest_.nodes[top.node];
      if (top.next == top.count) {
        End(node, top.new_type);
        if (!PutsEarly(node.kind) && top.new_type.empty()) PutIfShared(top.node);
        frames_.pop_back();
        continue;
      }
      SCONCE_RETURN_IF_ERROR(BeforeChild(node, top.next));
      const NodeIndex child = Child(node, top.next++);
      const bool retyped = node.kind == NodeKind::kTensorSubclass && top.next == 1 && !TakesArguments(node);
      if (memo_of_node_[child] != kNoMemo && !retyped) {
        out_.Get(memo_of_node_[child]);
      } else if (node.kind == NodeKind::kNumpyArray && manifest_.nodes[child].kind == NodeKind::kStorage) {
        SCONCE_RETURN_IF_ERROR(values_.StorageAsBytes(static_cast<StorageIndex>(manifest_.nodes[child].integer)));
      } else {
        SCONCE_RETURN_IF_ERROR(Begin(child, retyped ? absl::string_view(node.text) : ""));  // may move `top`
      }
    }
    return absl::OkStatus();
  }

  void PutIfShared(NodeIndex node) {
    if (is_shared_[node]) memo_of_node_[node] = out_.Put();
  }
  // Python memoizes what can contain itself before it is filled.
  static bool PutsEarly(NodeKind kind) {
    return kind == NodeKind::kList || kind == NodeKind::kDict || kind == NodeKind::kOrderedDict;
  }

  // The children as the pickle has them, which for some kinds is not as the node has them: a sparse tensor's size comes
  // after its components, what is said in another form is left out, and a subclass names its tensor without a tuple.
  static size_t SparseComponents(const Node& node) { return node.children.size() - 3; }
  size_t ChildCount(const Node& node) const {
    switch (node.kind) {
      case NodeKind::kSparseTensor: {
        const bool compressed = SparseComponents(node) == 3;  // those have no such flag
        const bool flagged = !compressed && manifest_.nodes[node.children.back()].kind == NodeKind::kBool;
        return 1 + SparseComponents(node) + 1 + (flagged ? 1 : 0);
      }
      case NodeKind::kNumpyScalar:
        return 1;
      case NodeKind::kNumpyArray:
        return 3;
      case NodeKind::kObject:
        return 1 + Elements(node) + (HasState(node) ? 1 : 0);
      default:
        return node.children.size();
    }
  }
  NodeIndex Child(const Node& node, size_t i) const {
    switch (node.kind) {
      case NodeKind::kSparseTensor:
        if (i == 0 || i == SparseComponents(node) + 2) return i == 0 ? node.children[0] : node.children.back();
        return node.children[i == SparseComponents(node) + 1 ? 1 : i + 1];
      case NodeKind::kNumpyScalar:
      case NodeKind::kNumpyArray:
        return node.children[i + 1];
      case NodeKind::kObject:
        return node.children[i == 0 ? 0 : i <= Elements(node) ? i + 2 : 2];
      case NodeKind::kTensorSubclass:
        return i == 0 && !TakesArguments(node) ? manifest_.nodes[node.children[0]].children[0] : node.children[i];
      default:
        return node.children[i];
    }
  }

  // Of an object the pickle has the arguments, the elements if its class is a list, and the state if there is one.
  static size_t Elements(const Node& object) { return object.children.size() - 3; }
  bool HasState(const Node& object) const { return manifest_.nodes[object.children[2]].kind != NodeKind::kNone; }

  absl::Status Begin(NodeIndex index, absl::string_view new_type) {
    const Node& node = manifest_.nodes[index];
    frames_.push_back({index, new_type, 0, ChildCount(node)});
    switch (node.kind) {
      case NodeKind::kList:
        out_.Op(PickleOp::kEmptyList);
        break;
      case NodeKind::kDict:
        out_.Op(PickleOp::kEmptyDict);
        break;
      case NodeKind::kOrderedDict:
        values_.EmptyOrderedDict();
        break;
      case NodeKind::kCounter:
        out_.Global("collections", "Counter");
        out_.Op(PickleOp::kEmptyDict);
        break;
      case NodeKind::kSet:
        out_.Global("__builtin__", "set");
        out_.Op(PickleOp::kEmptyList);
        break;
      case NodeKind::kSize:
        out_.Global("torch", "Size");
        [[fallthrough]];
      case NodeKind::kTuple:
        if (PickleWriter::TupleNeedsMark(node.children.size())) out_.Op(PickleOp::kMark);
        break;
      case NodeKind::kNumpyScalar:
        out_.Global("numpy.core.multiarray", "scalar");
        return values_.NumpyDtypeObject(manifest_.nodes[node.children[0]].text);
      case NodeKind::kNumpyArray:
        values_.EmptyNumpyArray();
        out_.Op(PickleOp::kMark);
        out_.Int(1);  // version of the state
        break;
      case NodeKind::kObject:
        values_.Global(node.text);
        break;
      case NodeKind::kSparseTensor:
      case NodeKind::kQuantizedTensor:
      case NodeKind::kNestedTensor:
      case NodeKind::kParameter:
      case NodeKind::kTensorSubclass:
        return BeginTensor(node, new_type);
      default:
        SCONCE_RETURN_IF_ERROR(values_.Leaf(node, new_type));
        if (new_type.empty()) PutIfShared(index);
        frames_.pop_back();
        return absl::OkStatus();
    }
    if (PutsEarly(node.kind)) PutIfShared(index);
    return absl::OkStatus();
  }

  absl::Status BeginTensor(const Node& node, absl::string_view new_type) {
    switch (node.kind) {
      case NodeKind::kSparseTensor:
        values_.Call("torch._utils", "_rebuild_sparse_tensor", new_type);
        return absl::OkStatus();
      case NodeKind::kQuantizedTensor:
        values_.Call("torch._utils", "_rebuild_qtensor", new_type);
        SCONCE_RETURN_IF_ERROR(
            values_.QuantizedStart(manifest_.tensors[node.tensor], manifest_.nodes[node.children[0]].text));
        out_.Op(PickleOp::kMark);
        return absl::OkStatus();
      case NodeKind::kNestedTensor:
        values_.Call("torch._utils", "_rebuild_nested_tensor", new_type);
        return absl::OkStatus();
      case NodeKind::kParameter:
        values_.Call("torch._utils", node.children.size() > 1 ? "_rebuild_parameter_with_state" : "_rebuild_parameter",
                     new_type);
        return absl::OkStatus();
      default:
        break;
    }
    if (IsJagged(node)) {
      values_.Call("torch._tensor", "_rebuild_from_type_v2", new_type);
      out_.Global(kNestedModule, "_rebuild_njt");
      out_.Global(kNestedModule, kNestedClass);
      return absl::OkStatus();
    }
    if (IsWrapper(node)) {
      values_.Call("torch._tensor", "_rebuild_from_type_v2", new_type);
      out_.Global("torch._utils", "_rebuild_wrapper_subclass");
      values_.Global(node.text);
      return absl::OkStatus();
    }
    SCONCE_RETURN_IF_ERROR(values_.CheckTensorClass(node.text));
    const Node& arguments = manifest_.nodes[node.children[0]];
    if (arguments.children.size() != 1 || !IsTensor(manifest_.nodes[arguments.children[0]].kind)) {
      return MakeError(Reason::FILE_UNSUPPORTED,
                       "a tensor subclass that is not made from one tensor cannot be written to a torch file; leave it "
                       "out of the selection");
    }
    values_.Call("torch._tensor", "_rebuild_from_type_v2", new_type);
    return absl::OkStatus();
  }
  // A jagged nested tensor, whose function takes one dict of keyword arguments: weights_only=True knows both names.
  bool IsJagged(const Node& node) const {
    const Node& arguments = manifest_.nodes[node.children[0]];
    return node.text == absl::StrCat(kNestedModule, ".", kNestedClass) && arguments.children.size() == 1 &&
           manifest_.nodes[arguments.children[0]].kind == NodeKind::kDict;
  }
  // A tensor that is made of its attributes, whose function takes the class and what the tensor looks like.
  bool IsWrapper(const Node& node) const {
    const std::vector<NodeIndex>& arguments = manifest_.nodes[node.children[0]].children;
    const std::optional<PickleGlobal> type = FindGlobalByName(node.text);
    return type.has_value() && type->tag == PickleTag::kWrapperClass && arguments.size() == kWrapperArguments &&
           manifest_.nodes[arguments[0]].kind == NodeKind::kGlobal && manifest_.nodes[arguments[0]].text == node.text;
  }
  bool TakesArguments(const Node& node) const { return IsJagged(node) || IsWrapper(node); }
  static bool IsTensor(NodeKind kind) {
    return kind == NodeKind::kTensor || kind == NodeKind::kSparseTensor || kind == NodeKind::kQuantizedTensor ||
           kind == NodeKind::kNestedTensor || kind == NodeKind::kParameter || kind == NodeKind::kTensorSubclass;
  }

  // Marks and gathers batches of elements, and sets what stands between two children.
  absl::Status BeforeChild(const Node& node, size_t next) {
    switch (node.kind) {
      case NodeKind::kList:
      case NodeKind::kSet:
        if (next % kBatch == 0) {
          if (next != 0) out_.Op(PickleOp::kAppends);
          out_.Op(PickleOp::kMark);
        }
        break;
      case NodeKind::kDict:
      case NodeKind::kOrderedDict:
      case NodeKind::kCounter: {
        const size_t in_pairs = node.children.size() / 2 * 2;
        if (next == in_pairs) {  // an OrderedDict's attributes
          if (in_pairs != 0) out_.Op(PickleOp::kSetItems);
        } else if (next % (2 * kBatch) == 0) {
          if (next != 0) out_.Op(PickleOp::kSetItems);
          out_.Op(PickleOp::kMark);
        }
        break;
      }
      case NodeKind::kObject:
        BeforeObjectChild(node, next);
        break;
      case NodeKind::kParameter:
        if (next == 1) ParameterRest(node);
        break;
      case NodeKind::kSparseTensor:
        if (next == 1) out_.Op(PickleOp::kMark);
        break;
      case NodeKind::kNumpyArray:  // shape, dtype, Fortran order, data
        if (next == 1) return values_.NumpyDtypeObject(manifest_.nodes[node.children[0]].text);
        break;
      default:
        break;
    }
    return absl::OkStatus();
  }

  void BeforeObjectChild(const Node& node, size_t next) {
    if (next == 1) MakeObject(node);
    if (next == 0) return;
    const bool is_element = next <= Elements(node);
    if (is_element ? next != 1 && (next - 1) % kBatch == 0 : Elements(node) != 0) out_.Op(PickleOp::kAppends);
    if (is_element && (next - 1) % kBatch == 0) out_.Op(PickleOp::kMark);
  }
  void MakeObject(const Node& node) {
    out_.Op(manifest_.nodes[node.children[1]].integer != 0 ? PickleOp::kReduce : PickleOp::kNewObj);
  }

  void End(const Node& node, absl::string_view new_type) {
    const size_t count = node.children.size();
    switch (node.kind) {
      case NodeKind::kList:
        if (count != 0) out_.Op(PickleOp::kAppends);
        break;
      case NodeKind::kDict:
      case NodeKind::kOrderedDict:
        if (count % 2 != 0) {
          out_.Op(PickleOp::kBuild);
        } else if (count != 0) {
          out_.Op(PickleOp::kSetItems);
        }
        break;
      case NodeKind::kCounter:
      case NodeKind::kSet:
        if (count != 0) out_.Op(node.kind == NodeKind::kSet ? PickleOp::kAppends : PickleOp::kSetItems);
        out_.Tuple(1);
        out_.Op(PickleOp::kReduce);
        break;
      case NodeKind::kSize:
        out_.Tuple(count);
        out_.Tuple(1);
        out_.Op(PickleOp::kReduce);
        break;
      case NodeKind::kTuple:
        out_.Tuple(count);
        break;
      case NodeKind::kObject:
        if (ChildCount(node) == 1) {
          MakeObject(node);
        } else {
          out_.Op(HasState(node) ? PickleOp::kBuild : PickleOp::kAppends);
        }
        break;
      case NodeKind::kNumpyScalar:
        out_.Tuple(2);
        out_.Op(PickleOp::kReduce);
        break;
      case NodeKind::kNumpyArray:
        out_.Op(PickleOp::kTuple);
        out_.Op(PickleOp::kBuild);
        break;
      default:
        EndTensor(node, new_type);
    }
  }

  void EndTensor(const Node& node, absl::string_view new_type) {
    if (node.kind == NodeKind::kSparseTensor) {
      out_.Op(PickleOp::kTuple);  // the components, the size and the flag
    } else if (node.kind == NodeKind::kQuantizedTensor) {
      out_.Op(PickleOp::kTuple);  // the quantizer
      out_.Bool(manifest_.tensors[node.tensor].requires_grad);
      values_.Hooks();
    } else if (node.kind == NodeKind::kParameter && node.children.size() == 1) {
      ParameterRest(node);
    }
    values_.EndCall(new_type);
  }

  void ParameterRest(const Node& node) {
    out_.Bool(node.integer != 0);
    values_.Hooks();
  }

  // "at /a/b": of the innermost node being written that has a path.
  std::string Place() const {
    absl::flat_hash_map<NodeIndex, size_t> depth_of;
    for (size_t i = 0; i < frames_.size(); ++i) depth_of.emplace(frames_[i].node, i + 1);
    size_t depth = 0;
    std::string place;
    const absl::Status walked = ForEachPath(manifest_, [&](absl::string_view path, NodeIndex node) {
      const auto it = depth_of.find(node);
      if (it == depth_of.end() || it->second <= depth) return true;
      depth = it->second;
      place = std::string(path);
      return depth < frames_.size();
    });
    if (!walked.ok() && depth == 0) return "in the tree";
    return place.empty() ? "at the top" : absl::StrCat("at ", place);
  }

  const Manifest& manifest_;
  PickleWriter out_;
  TorchPickleValues values_;  // writes to out_
  std::vector<Frame> frames_;
  std::vector<PickleWriter::Memo> memo_of_node_;
  std::vector<bool> is_shared_;
};

}  // namespace

absl::StatusOr<TorchPickle> WriteTorchPickle(const Manifest& manifest, StorageBytes& bytes) {
  return TreeWriter(manifest, bytes).Write();
}

}  // namespace sconce::format
