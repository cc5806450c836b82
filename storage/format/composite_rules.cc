#include "storage/format/composite_rules.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "storage/format/numpy_dtype.h"
#include "storage/format/pickle_globals.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

bool IsTensorKind(NodeKind kind) {
  return kind == NodeKind::kTensor || kind == NodeKind::kSparseTensor || kind == NodeKind::kQuantizedTensor ||
         kind == NodeKind::kNestedTensor || kind == NodeKind::kTensorSubclass;
}

class CompositeRules {
 public:
  explicit CompositeRules(const Manifest& manifest) : manifest_(manifest), nodes_(manifest.nodes) {}

  absl::string_view Problem(NodeIndex i) const {
    const Node& node = nodes_[i];
    switch (node.kind) {
      case NodeKind::kTensor:
        return IsQuantized(manifest_.tensors[node.tensor].dtype) ? "a quantized dtype, without its scale" : "";
      case NodeKind::kSize:
        return std::all_of(node.children.begin(), node.children.end(),
                           [this](NodeIndex child) { return IsExtent(child); })
                   ? ""
                   : "not made of sizes";
      case NodeKind::kNumpyScalar:
      case NodeKind::kNumpyArray:
        return Numpy(i);
      case NodeKind::kSparseTensor:
        return Sparse(i);
      case NodeKind::kQuantizedTensor:
        return Quantized(i);
      case NodeKind::kNestedTensor:
        return Are(node, {NodeKind::kTensor, NodeKind::kTensor, NodeKind::kTensor, NodeKind::kTensor}, 4)
                   ? ""
                   : "children are not four tensors";
      case NodeKind::kParameter:
        return Parameter(i);
      case NodeKind::kTensorSubclass:
        if (node.text.empty() || !IsUtf8(node.text, /*allow_surrogates=*/false)) return "the class has no proper name";
        if (!Are(node, {NodeKind::kTuple}, 2)) return "children are not a tuple and a state";
        return Wrapper(node);
      case NodeKind::kShardedTensor:
        return Sharded(i);
      case NodeKind::kGlobal:
        return IsGlobalNode(node.text) ? "" : "not a name that a torch file may use";
      case NodeKind::kObject:
        return Object(i);
      default:
        return "";
    }
  }

 private:
  NodeKind ChildKind(const Node& node, size_t at) const { return nodes_[node.children[at]].kind; }

  // `node` has `count` children, the first ones of these kinds.
  bool Are(const Node& node, std::initializer_list<NodeKind> kinds, size_t count) const {
    if (node.children.size() != count || kinds.size() > count) return false;
    size_t at = 0;
    return std::all_of(kinds.begin(), kinds.end(), [&](NodeKind kind) { return ChildKind(node, at++) == kind; });
  }

  bool IsExtent(NodeIndex i) const {
    return nodes_[i].kind == NodeKind::kInt && nodes_[i].text.empty() && nodes_[i].integer >= 0;
  }

  absl::string_view Numpy(NodeIndex i) const {
    const Node& node = nodes_[i];
    const bool scalar = node.kind == NodeKind::kNumpyScalar;
    if (scalar ? !Are(node, {NodeKind::kStr, NodeKind::kBytes}, 2)
               : !Are(node, {NodeKind::kStr, NodeKind::kTuple, NodeKind::kBool}, 4) ||
                     (ChildKind(node, 3) != NodeKind::kBytes && ChildKind(node, 3) != NodeKind::kStorage)) {
      return "children are not what this kind has";
    }
    const std::optional<NumpyDtype> dtype = ParseNumpyDtype(nodes_[node.children[0]].text);
    if (!dtype.has_value()) return "unknown numpy dtype";
    const Node& data = nodes_[node.children.back()];
    int64_t bytes = static_cast<int64_t>(data.text.size());
    if (data.kind == NodeKind::kStorage) bytes = manifest_.storages[data.integer].size_bytes;
    int64_t expected = dtype->item_bytes;
    if (!scalar) {
      Dims shape;
      const Node& extents = nodes_[node.children[1]];
      if (extents.children.size() > kMaxRank) return "more than 64 dimensions";
      for (const NodeIndex extent : extents.children) {
        if (!IsExtent(extent)) return "the shape is not made of sizes";
        shape.push_back(nodes_[extent].integer);
      }
      const int64_t elements = ElementCount(shape);
      if (elements < 0 || __builtin_mul_overflow(expected, elements, &expected)) return "the shape overflows";
    }
    if (bytes != expected) return "has more or fewer bytes than its shape and dtype";
    return "";
  }

  absl::string_view Sparse(NodeIndex i) const {
    const Node& node = nodes_[i];
    if (node.children.size() < 5 || !Are(node, {NodeKind::kLayout, NodeKind::kSize}, node.children.size())) {
      return "children are not what this kind has";
    }
    if (nodes_[node.children[1]].children.size() > kMaxRank) return "more than 64 dimensions";
    const std::string& layout = nodes_[node.children[0]].text;
    const bool compressed =
        layout == "sparse_csr" || layout == "sparse_csc" || layout == "sparse_bsr" || layout == "sparse_bsc";
    if (!compressed && layout != "sparse_coo") return "unknown sparse layout";
    const size_t components = compressed ? 3 : 2;
    if (node.children.size() != 2 + components + 1) return "the layout has another number of components";
    for (size_t at = 2; at < 2 + components; ++at) {
      if (ChildKind(node, at) != NodeKind::kTensor) return "a component is not a strided tensor";
    }
    const NodeKind coalesced = nodes_[node.children.back()].kind;
    if (coalesced != NodeKind::kBool && coalesced != NodeKind::kNone) return "coalesced is neither bool nor None";
    return "";
  }

  absl::string_view Quantized(NodeIndex i) const {
    const Node& node = nodes_[i];
    const bool per_tensor = Are(node, {NodeKind::kQScheme, NodeKind::kFloat, NodeKind::kInt}, 3);
    const bool per_channel = Are(node, {NodeKind::kQScheme, NodeKind::kTensor, NodeKind::kTensor, NodeKind::kInt}, 4) ||
                             Are(node, {NodeKind::kQScheme, NodeKind::kList, NodeKind::kList, NodeKind::kInt}, 4);
    if (!per_tensor && !per_channel) return "children are not what this kind has";
    const std::string& scheme = nodes_[node.children[0]].text;
    const bool scheme_fits = per_tensor ? scheme == "per_tensor_affine" || scheme == "per_tensor_symmetric"
                                        : scheme == "per_channel_affine" || scheme == "per_channel_symmetric" ||
                                              scheme == "per_channel_affine_float_qparams";
    if (!scheme_fits) return "the scheme does not go with its parameters";
    if (!nodes_[node.children.back()].text.empty()) return "zero point or axis out of range";
    const TensorView& view = manifest_.tensors[node.tensor];
    if (!IsQuantized(view.dtype)) return "the integers are of a dtype that is not quantized";
    return per_tensor ? "" : PerChannel(node, view);
  }

  // One scale and one zero point for each index along the axis.
  absl::string_view PerChannel(const Node& node, const TensorView& view) const {
    const int64_t axis = nodes_[node.children.back()].integer;
    if (axis < 0 || axis >= static_cast<int64_t>(view.shape.size())) return "no such axis";
    for (const size_t at : {1, 2}) {
      const Node& values = nodes_[node.children[at]];
      for (const NodeIndex value : values.children) {
        const bool is_number = nodes_[value].kind == NodeKind::kFloat ||
                               (nodes_[value].kind == NodeKind::kInt && nodes_[value].text.empty());
        if (!is_number) return "a list of scales or zero points with something else than numbers";
      }
      const int64_t count = values.kind == NodeKind::kList ? static_cast<int64_t>(values.children.size())
                                                           : ElementCount(manifest_.tensors[values.tensor].shape);
      if (count != view.shape[axis]) return "not one scale and zero point for each index along the axis";
    }
    return "";
  }

  absl::string_view Parameter(NodeIndex i) const {
    const Node& node = nodes_[i];
    if (node.children.empty() || node.children.size() > 2 || !IsTensorKind(ChildKind(node, 0))) {
      return "children are not a tensor and its state";
    }
    if (node.children.size() == 2 && ChildKind(node, 1) != NodeKind::kDict && ChildKind(node, 1) != NodeKind::kTuple) {
      return "the state is neither a dict nor a tuple";
    }
    return "";
  }

  // A class that has no tensor of its own is made from what its tensor looks like.
  absl::string_view Wrapper(const Node& node) const {
    const std::optional<PickleGlobal> type = FindGlobalByName(node.text);
    if (!type.has_value() || type->tag != PickleTag::kWrapperClass) return "";
    const Node& arguments = nodes_[node.children[0]];
    if (!Are(arguments,
             {NodeKind::kGlobal, NodeKind::kDtype, NodeKind::kTuple, NodeKind::kTuple, NodeKind::kInt,
              NodeKind::kLayout, NodeKind::kDevice, NodeKind::kBool},
             kWrapperArguments) ||
        nodes_[arguments.children[0]].text != node.text) {
      return "not made from class, dtype, size, stride, offset, layout, device and requires_grad";
    }
    for (const size_t dims : {kWrapperShape, kWrapperShape + 1}) {
      const std::vector<NodeIndex>& extents = nodes_[arguments.children[dims]].children;
      if (extents.size() > kMaxRank) return "more than 64 dimensions";
      for (const NodeIndex extent : extents) {
        if (!IsExtent(extent)) return "the shape or the strides are not made of sizes";
      }
    }
    return "";
  }

  absl::string_view Object(NodeIndex i) const {
    const Node& node = nodes_[i];
    const std::optional<PickleGlobal> type = FindGlobalByName(node.text);
    if (!type.has_value() || !IsObjectClass(type->tag)) return "not a class that a torch file may have objects of";
    if (node.children.size() < 3 || !Are(node, {NodeKind::kTuple, NodeKind::kBool}, node.children.size()))
      return "children are not a tuple, a bool and a state";
    if (node.children.size() > 3 && type->tag != PickleTag::kListClass) return "elements of a class that is no list";
    return "";
  }

  absl::string_view Sharded(NodeIndex i) const {
    const Node& node = nodes_[i];
    if (node.children.size() % 3 != 1 || ChildKind(node, 0) != NodeKind::kSize) {
      return "children are not a size and triples";
    }
    const std::vector<NodeIndex>& global = nodes_[node.children[0]].children;
    if (global.size() > kMaxRank) return "more than 64 dimensions";
    Dims global_shape;
    for (const NodeIndex extent : global) global_shape.push_back(nodes_[extent].integer);
    if (ElementCount(global_shape) < 0) return "the global shape overflows";
    for (size_t at = 1; at < node.children.size(); at += 3) {
      const Node& offsets = nodes_[node.children[at]];
      const Node& sizes = nodes_[node.children[at + 1]];
      const Node& tensor = nodes_[node.children[at + 2]];
      if (offsets.kind != NodeKind::kTuple || sizes.kind != NodeKind::kTuple || tensor.kind != NodeKind::kTensor ||
          offsets.children.size() != global.size() || sizes.children.size() != global.size() ||
          manifest_.tensors[tensor.tensor].shape.size() != global.size()) {
        return "a shard is not offsets, sizes and a tensor of the global rank";
      }
      for (size_t d = 0; d < global.size(); ++d) {
        const NodeIndex offset = offsets.children[d];
        const NodeIndex size = sizes.children[d];
        const int64_t whole = global_shape[d];
        if (!IsExtent(offset) || !IsExtent(size) || nodes_[offset].integer > whole ||
            nodes_[size].integer > whole - nodes_[offset].integer ||
            manifest_.tensors[tensor.tensor].shape[d] != nodes_[size].integer) {
          return "a shard lies outside the global shape or its tensor has another shape";
        }
      }
    }
    return "";
  }

  const Manifest& manifest_;
  const std::vector<Node>& nodes_;
};

}  // namespace

absl::string_view ProblemOfComposite(const Manifest& manifest, NodeIndex node) {
  return CompositeRules(manifest).Problem(node);
}

}  // namespace sconce::format
