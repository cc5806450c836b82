#include "storage/format/tree_nodes.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/composite_rules.h"
#include "storage/format/numpy_values.h"
#include "storage/format/value_key.h"

namespace sconce::format {

using Kind = PickleValue::Kind;

absl::StatusOr<NodeIndex> TreeNodes::Add(Node node) {
  if (manifest_.nodes.size() >= kMaxNodes) {
    return MakeError(Reason::INPUT_LIMIT_EXCEEDED, absl::StrCat("the tree has more than ", kMaxNodes,
                                                                " objects; keep long lists of numbers in tensors"));
  }
  manifest_.nodes.push_back(std::move(node));
  return static_cast<NodeIndex>(manifest_.nodes.size() - 1);
}

absl::Status TreeNodes::Open(PickleIndex value, TreeFrame& frame) {
  frame.value = value;
  switch (graph_[value].kind) {
    case Kind::kTuple:
    case Kind::kList: {
      frame.kind = graph_[value].kind == Kind::kTuple ? NodeKind::kTuple : NodeKind::kList;
      const Args items = graph_.Items(value);
      frame.todo.assign(items.begin(), items.end());
      return absl::OkStatus();
    }
    case Kind::kSet:
      return TakeSet(frame, graph_.Items(value));
    case Kind::kDict:
      return TakeDict(frame, NodeKind::kDict, graph_.Items(value));
    default:
      break;
  }
  const PickleTag function = graph_[value].global.tag;
  const Args args = graph_.Items(graph_.Args(value));
  switch (function) {
    case PickleTag::kOrderedDict:
      return OpenOrderedDict(value, frame);
    case PickleTag::kCounter:
      return TakeDict(frame, NodeKind::kCounter, graph_.Items(value));
    case PickleTag::kRebuildFromType:
      return OpenSubclass(args, frame);
    case PickleTag::kScriptClass:
      return OpenScriptObject(value, frame);
    case PickleTag::kException:
    case PickleTag::kObjectClass:
    case PickleTag::kListClass:
    case PickleTag::kValueClass:
      return OpenObject(value, frame);
    case PickleTag::kNumpyReconstruct:
    case PickleTag::kNumpyFromBuffer:
      return OpenNumpyArray(value, frame);
    case PickleTag::kParameter:
      if (graph_.State(value) != PickleGraph::kAbsent) return OpenOldParameter(args, graph_.State(value), frame);
      break;
    default:
      break;
  }
  return OpenCall(function, args, frame);
}

absl::Status TreeNodes::OpenCall(PickleTag function, absl::Span<const PickleIndex> args, TreeFrame& frame) {
  switch (function) {
    case PickleTag::kSize: {
      SCONCE_ASSIGN_OR_RETURN(const Args extents, OnlyArgument(args, Kind::kTuple));
      frame.kind = NodeKind::kSize;
      frame.todo.assign(extents.begin(), extents.end());
      return absl::OkStatus();
    }
    case PickleTag::kRebuildParameter:
    case PickleTag::kRebuildParameterWithState:
    case PickleTag::kParameter:
      return OpenParameter(function, args, frame);
    case PickleTag::kRebuildSparse:
      return OpenSparse(args, frame);
    case PickleTag::kRebuildQuantized:
      return OpenQuantized(args, frame);
    case PickleTag::kRebuildNested:
      frame.kind = NodeKind::kNestedTensor;
      frame.todo.assign(args.begin(), args.end());
      return absl::OkStatus();
    case PickleTag::kScriptList:
    case PickleTag::kScriptTyped:
      return OpenScriptContainer(function, args, frame);
    case PickleTag::kNumpyScalar:
      return OpenNumpyScalar(args, frame);
    case PickleTag::kNumpyDtype:
      return UnsupportedValue("a numpy dtype that is no value's; save its name, str(dtype), instead");
    case PickleTag::kRebuildFromNumpy:
      return UnsupportedValue(
          "a tensor of a device without storages, written as a numpy array; move it to the CPU before saving");
    case PickleTag::kRebuildWrapper:
      return UnsupportedValue(
          "a tensor subclass that has no data of its own; save the tensors that it wraps, or its full tensor");
    default:
      return MalformedValue("a function is called in a place where PyTorch does not write it");
  }
}

absl::Status TreeNodes::TakeDict(TreeFrame& frame, NodeKind kind, Args items) {
  frame.kind = kind;
  if (keys_.Deduplicate(items, frame.todo)) return absl::OkStatus();
  frame.todo.clear();
  return MalformedValue("a dict has a key that cannot be one; keys are strs, numbers and the like, and tuples of them");
}

absl::Status TreeNodes::OpenScriptObject(PickleIndex value, TreeFrame& frame) {
  const PickleIndex state = graph_.State(value);
  if (state == PickleGraph::kAbsent) return TakeDict(frame, NodeKind::kDict, {});
  if (graph_[state].kind == Kind::kDict) return TakeDict(frame, NodeKind::kDict, graph_.Items(state));
  frame.kind = NodeKind::kTuple;  // what a __getstate__ of its own gave
  frame.todo.push_back(state);
  return absl::OkStatus();
}

absl::Status TreeNodes::OpenScriptContainer(PickleTag function, Args args, TreeFrame& frame) {
  if (args.size() != (function == PickleTag::kScriptTyped ? 2u : 1u))
    return MalformedValue("a list or dict of a TorchScript archive is made from something unexpected");
  const Args items =
      graph_[args[0]].kind == Kind::kList || graph_[args[0]].kind == Kind::kDict ? graph_.Items(args[0]) : Args();
  SCONCE_RETURN_IF_ERROR(values_.Charge(items.size()));
  if (graph_[args[0]].kind == Kind::kDict) return TakeDict(frame, NodeKind::kDict, items);
  if (graph_[args[0]].kind != Kind::kList) return MalformedValue("a list or dict of a TorchScript archive is neither");
  frame.kind = NodeKind::kList;
  frame.todo.assign(items.begin(), items.end());
  return absl::OkStatus();
}

absl::Status TreeNodes::TakeSet(TreeFrame& frame, Args elements) {
  frame.kind = NodeKind::kSet;
  if (keys_.DeduplicateSet(elements, frame.todo)) return absl::OkStatus();
  frame.todo.clear();
  return UnsupportedValue("a set of something else than strs, numbers and the like, and tuples of them");
}

absl::StatusOr<absl::Span<const PickleIndex>> TreeNodes::OnlyArgument(Args args, Kind kind) {
  if (args.size() != 1 || graph_[args[0]].kind != kind)
    return MalformedValue("a container is made from something unexpected");
  const Args items = graph_.Items(args[0]);
  SCONCE_RETURN_IF_ERROR(values_.Charge(items.size()));
  return items;
}

absl::Status TreeNodes::OpenOrderedDict(PickleIndex value, TreeFrame& frame) {
  SCONCE_RETURN_IF_ERROR(TakeDict(frame, NodeKind::kOrderedDict, graph_.Items(value)));
  const PickleIndex state = graph_.State(value);
  if (state == PickleGraph::kAbsent) return absl::OkStatus();
  if (graph_[state].kind != Kind::kDict) return MalformedValue("an OrderedDict's attributes are not a dict");
  frame.todo.push_back(state);
  return absl::OkStatus();
}

// _rebuild_parameter(tensor, requires_grad, hooks), _rebuild_parameter_with_state(..., state), Parameter(tensor,
// [requires_grad])
absl::Status TreeNodes::OpenParameter(PickleTag function, Args args, TreeFrame& frame) {
  const bool has_state = function == PickleTag::kRebuildParameterWithState;
  const size_t least = function == PickleTag::kParameter ? 1 : has_state ? 4 : 3;
  const size_t most = function == PickleTag::kParameter ? 2 : least;
  if (args.size() < least || args.size() > most) return MalformedValue("a Parameter has too few or too many arguments");
  if (graph_[args[0]].kind != Kind::kCall) return MalformedValue("a Parameter without a tensor");
  frame.kind = NodeKind::kParameter;
  frame.flag = true;
  if (args.size() > 1) {
    SCONCE_ASSIGN_OR_RETURN(frame.flag, values_.ReadBool(args[1]));
  }
  if (args.size() > 2) SCONCE_RETURN_IF_ERROR(values_.CheckHooks(args[2]));
  frame.todo.push_back(args[0]);
  if (has_state && graph_[args[3]].kind != Kind::kNone) frame.todo.push_back(args[3]);
  return absl::OkStatus();
}

// Before PyTorch 0.4: Parameter(tensor), given the state (requires_grad, volatile, hooks).
absl::Status TreeNodes::OpenOldParameter(Args args, PickleIndex state, TreeFrame& frame) {
  if (graph_[state].kind != Kind::kTuple || graph_.Items(state).size() != 3)
    return MalformedValue("a Parameter with a state that no PyTorch writes");
  SCONCE_RETURN_IF_ERROR(OpenParameter(PickleTag::kParameter, args, frame));
  const Args parts = graph_.Items(state);
  SCONCE_ASSIGN_OR_RETURN(frame.flag, values_.ReadBool(parts[0]));
  SCONCE_RETURN_IF_ERROR(values_.ReadBool(parts[1]).status());
  return values_.CheckHooks(parts[2]);
}

// _rebuild_sparse_tensor(layout, data): for sparse_coo (indices, values, size, [is_coalesced]), for the compressed
// layouts (compressed indices, plain indices, values, size).
absl::Status TreeNodes::OpenSparse(Args args, TreeFrame& frame) {
  frame.kind = NodeKind::kSparseTensor;
  if (args.size() != 2 || !values_.IsCall(args[0], PickleTag::kGetLayout) || graph_[args[1]].kind != Kind::kTuple)
    return MalformedValue("a sparse tensor without its layout or its parts");
  SCONCE_ASSIGN_OR_RETURN(const Node layout, values_.Read(args[0]));
  const bool is_coo = layout.text == "sparse_coo";
  const Args parts = graph_.Items(args[1]);
  const size_t components = is_coo ? 2 : 3;
  if (parts.size() != components + 1 && (!is_coo || parts.size() != components + 2))
    return MalformedValue("a sparse tensor has too few or too many parts");
  frame.todo.push_back(args[0]);
  // Made here, a torch.Size as it is written or a tuple, so that both give the same nodes.
  SCONCE_RETURN_IF_ERROR(AddDims(NodeKind::kSize, parts[components], frame));
  frame.todo.insert(frame.todo.end(), parts.begin(), parts.begin() + components);
  const bool has_flag = parts.size() == components + 2 && graph_[parts.back()].kind != Kind::kNone;
  if (!has_flag) return AddReady(Node(), frame);
  frame.todo.push_back(parts.back());
  return absl::OkStatus();
}

// The quantizer is (scheme, scale, zero point) or (scheme, scales, zero points, axis), tensors or lists of numbers.
absl::Status TreeNodes::OpenQuantized(Args args, TreeFrame& frame) {
  frame.kind = NodeKind::kQuantizedTensor;
  SCONCE_ASSIGN_OR_RETURN(frame.tensor, tensors_.ReadQuantized(args));
  if (graph_[args[4]].kind != Kind::kTuple) return MalformedValue("a quantized tensor without its parameters");
  const Args quantizer = graph_.Items(args[4]);
  frame.todo.assign(quantizer.begin(), quantizer.end());
  return absl::OkStatus();
}

// _rebuild_from_type_v2(function, class, args, state): the class of what function(*args) makes, and its attributes.
absl::Status TreeNodes::OpenSubclass(Args args, TreeFrame& frame) {
  frame.kind = NodeKind::kTensorSubclass;
  if (args.size() != 4 || graph_[args[0]].kind != Kind::kGlobal || graph_[args[1]].kind != Kind::kGlobal ||
      graph_[args[2]].kind != Kind::kTuple) {
    return MalformedValue("a tensor subclass without its function, class or arguments");
  }
  const PickleTag function = graph_[args[0]].global.tag;
  frame.type = graph_[args[1]].global;
  const bool is_jagged = function == PickleTag::kRebuildJagged;
  const bool is_wrapper = function == PickleTag::kRebuildWrapper;
  const PickleTag type = frame.type.tag;
  const bool fits = is_wrapper  ? type == PickleTag::kWrapperClass
                    : is_jagged ? type == PickleTag::kJaggedClass
                                : type == PickleTag::kTensorClass || type == PickleTag::kParameter;
  if (!fits) return MalformedValue("a tensor subclass with a function or class that PyTorch does not use there");
  if (is_jagged) {
    const Args keywords = graph_.Items(args[2]);
    if (keywords.size() != 1 || graph_[keywords[0]].kind != Kind::kDict)
      return MalformedValue("a jagged tensor without its parts");
    frame.todo.push_back(args[2]);
  } else if (is_wrapper) {
    SCONCE_RETURN_IF_ERROR(CheckWrapper(frame.type, graph_.Items(args[2])));
    frame.todo.push_back(args[2]);
  } else {
    frame.todo.push_back(TreeFrame::kInnerCall);
  }
  frame.todo.push_back(args[3]);
  return absl::OkStatus();
}

// _rebuild_wrapper_subclass(class, dtype, size, stride, offset, layout, device, requires_grad)
absl::Status TreeNodes::CheckWrapper(PickleGlobal type, Args args) {
  if (args.size() != kWrapperArguments || graph_[args[0]].kind != Kind::kGlobal ||
      graph_[args[0]].global.tag != type.tag || graph_[args[0]].global.number != type.number ||
      !values_.IsCall(args[5], PickleTag::kGetLayout) || !values_.IsCall(args[kWrapperDevice], PickleTag::kDevice)) {
    return MalformedValue("a tensor that wraps others, made from something unexpected");
  }
  SCONCE_RETURN_IF_ERROR(values_.ReadDType(args[1]).status());
  SCONCE_RETURN_IF_ERROR(values_.ReadDims(args[2]).status());
  SCONCE_RETURN_IF_ERROR(values_.ReadDims(args[3]).status());
  SCONCE_RETURN_IF_ERROR(values_.ReadCount(args[4]).status());
  return values_.ReadBool(args[7]).status();
}

// class(*args) or class.__new__(class, *args), elements appended to it, and its state. What the class would make of
// them is for Python to say.
absl::Status TreeNodes::OpenObject(PickleIndex value, TreeFrame& frame) {
  frame.kind = NodeKind::kObject;
  frame.type = graph_[value].global;
  frame.todo.push_back(graph_.Args(value));
  Node is_called;
  is_called.kind = NodeKind::kBool;
  is_called.integer = graph_[value].integer != 0 ? 0 : 1;
  SCONCE_RETURN_IF_ERROR(AddReady(std::move(is_called), frame));
  if (const PickleIndex state = graph_.State(value); state != PickleGraph::kAbsent) {
    frame.todo.push_back(state);
  } else {
    SCONCE_RETURN_IF_ERROR(AddReady(Node(), frame));
  }
  const Args elements = graph_.Items(value);
  frame.todo.insert(frame.todo.end(), elements.begin(), elements.end());
  return absl::OkStatus();
}

// scalar(dtype, data)
absl::Status TreeNodes::OpenNumpyScalar(Args args, TreeFrame& frame) {
  frame.kind = NodeKind::kNumpyScalar;
  if (args.size() != 2) return MalformedValue("a numpy scalar without its dtype or its bytes");
  SCONCE_RETURN_IF_ERROR(AddNumpyDtype(args[0], frame));
  frame.todo.push_back(args[1]);
  return absl::OkStatus();
}

// All its nodes are made here, so that both ways to pickle an array give the same ones.
absl::Status TreeNodes::OpenNumpyArray(PickleIndex value, TreeFrame& frame) {
  frame.kind = NodeKind::kNumpyArray;
  SCONCE_ASSIGN_OR_RETURN(const NumpyArrayParts parts, ReadNumpyArray(graph_, value));
  SCONCE_RETURN_IF_ERROR(AddNumpyDtype(parts.dtype, frame));
  SCONCE_RETURN_IF_ERROR(AddDims(NodeKind::kTuple, parts.shape, frame));
  Node fortran;
  fortran.kind = NodeKind::kBool;
  fortran.integer = parts.is_fortran ? 1 : 0;
  SCONCE_RETURN_IF_ERROR(AddReady(std::move(fortran), frame));
  if (!values_.IsScalar(parts.data)) return MalformedValue("a numpy array without its bytes");
  const Kind kind = graph_[parts.data].kind;
  if (kind == Kind::kBytes || kind == Kind::kByteArray)
    SCONCE_RETURN_IF_ERROR(values_.Charge(graph_.Text(parts.data).size()));
  SCONCE_ASSIGN_OR_RETURN(Node data, values_.Read(parts.data));
  if (data.kind == NodeKind::kByteArray)
    data.kind = NodeKind::kBytes;  // protocol 5, of an array that can be written to
  return AddReady(std::move(data), frame);
}

absl::Status TreeNodes::AddReady(Node node, TreeFrame& frame) {
  SCONCE_ASSIGN_OR_RETURN(const NodeIndex index, Add(std::move(node)));
  frame.todo.push_back(TreeFrame::kReady | index);
  return absl::OkStatus();
}

absl::Status TreeNodes::AddNumpyDtype(PickleIndex dtype, TreeFrame& frame) {
  Node node;
  node.kind = NodeKind::kStr;
  SCONCE_ASSIGN_OR_RETURN(node.text, ReadNumpyDtype(graph_, dtype));
  if (const auto it = numpy_dtypes_.find(node.text); it != numpy_dtypes_.end()) {
    frame.todo.push_back(TreeFrame::kReady | it->second);
    return absl::OkStatus();
  }
  std::string text = node.text;
  SCONCE_ASSIGN_OR_RETURN(const NodeIndex index, Add(std::move(node)));
  numpy_dtypes_.emplace(std::move(text), index);
  frame.todo.push_back(TreeFrame::kReady | index);
  return absl::OkStatus();
}

absl::Status TreeNodes::AddDims(NodeKind kind, PickleIndex tuple, TreeFrame& frame) {
  SCONCE_ASSIGN_OR_RETURN(const Dims extents, values_.ReadDims(tuple));
  Node dims;
  dims.kind = kind;
  for (const int64_t extent : extents) {
    Node node;
    node.kind = NodeKind::kInt;
    node.integer = extent;
    SCONCE_ASSIGN_OR_RETURN(const NodeIndex child, Add(std::move(node)));
    dims.children.push_back(child);
  }
  return AddReady(std::move(dims), frame);
}

absl::StatusOr<NodeIndex> TreeNodes::Close(TreeFrame& frame) {
  if (frame.kind == NodeKind::kSet) SCONCE_RETURN_IF_ERROR(SortSetElements(manifest_.nodes, frame.children));
  Node node;
  node.kind = frame.kind;
  node.integer = frame.flag ? 1 : 0;
  node.tensor = frame.tensor;
  if (frame.kind == NodeKind::kObject) node.text = PickleGlobalName(frame.type);
  if (frame.kind == NodeKind::kTensorSubclass) {
    node.text = PickleGlobalName(frame.type);
    if (frame.todo.front() == TreeFrame::kInnerCall) {
      if (const NodeKind inner = manifest_.nodes[frame.children.front()].kind;
          inner < NodeKind::kTensor || inner > NodeKind::kNestedTensor) {
        return MalformedValue("a tensor subclass of something else than a tensor");
      }
      Node args;
      args.kind = NodeKind::kTuple;
      args.children = {frame.children.front()};
      SCONCE_ASSIGN_OR_RETURN(frame.children.front(), Add(std::move(args)));
    }
  }
  node.children = frame.children;
  SCONCE_ASSIGN_OR_RETURN(const NodeIndex index, Add(std::move(node)));
  if (const absl::string_view problem = ProblemOfComposite(manifest_, index); !problem.empty())
    return MalformedValue(absl::StrCat("a ", TypeName(frame.kind), ": ", problem));
  return index;
}

}  // namespace sconce::format
