#include "storage/format/torch_tree.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/torch_tensors.h"
#include "storage/format/torch_values.h"
#include "storage/format/tree_nodes.h"

namespace sconce::format {
namespace {

using Kind = PickleValue::Kind;

// Walks the values below the root depth first, with a stack of its own, and gives each its node once all its children
// have theirs. A value met again is the same node; one met again while it is still open contains itself.
class TreeBuilder {
 public:
  TreeBuilder(const PickleGraph& graph, StorageLookup lookup)
      : graph_(graph),
        values_(graph),
        tensors_(graph, lookup, values_, file_),
        nodes_(graph, values_, tensors_, file_.manifest),
        node_of_(graph.size(), kNoIndex) {}

  absl::StatusOr<TorchIndex> Build() {
    if (const absl::Status walked = Walk(); !walked.ok()) return Annotate(walked, Place());
    return std::move(file_);
  }

 private:
  static constexpr NodeIndex kOpen = kNoIndex - 1;  // in node_of_: being built

  absl::Status Walk() {
    SCONCE_RETURN_IF_ERROR(Visit(graph_.root()));
    while (!frames_.empty()) {
      TreeFrame& top = frames_.back();
      if (top.children.size() == top.todo.size()) {
        SCONCE_RETURN_IF_ERROR(Close());
        continue;
      }
      const uint32_t next = top.todo[top.children.size()];
      if (next == TreeFrame::kInnerCall) {
        SCONCE_RETURN_IF_ERROR(VisitInnerCall());
      } else if ((next & TreeFrame::kReady) != 0) {
        top.children.push_back(next & ~TreeFrame::kReady);
      } else if (node_of_[next] == kOpen) {
        return MakeError(Reason::FILE_UNSUPPORTED, "an object contains itself; remove the cycle before saving");
      } else if (node_of_[next] != kNoIndex) {
        top.children.push_back(node_of_[next]);
      } else {
        SCONCE_RETURN_IF_ERROR(Visit(next));  // a frame that it opens is met again above once it is closed
      }
    }
    return absl::OkStatus();
  }

  // Either gives the value its node or opens a frame for it.
  absl::Status Visit(PickleIndex value) {
    const PickleValue& what = graph_[value];
    if (values_.IsScalar(value)) {
      SCONCE_ASSIGN_OR_RETURN(Node node, values_.Read(value));
      SCONCE_ASSIGN_OR_RETURN(node_of_[value], nodes_.Add(std::move(node)));
      return absl::OkStatus();
    }
    if (tensors_.IsStorage(value)) {
      SCONCE_ASSIGN_OR_RETURN(Node node, tensors_.ReadBareStorage(value));
      SCONCE_ASSIGN_OR_RETURN(node_of_[value], nodes_.Add(std::move(node)));
      return absl::OkStatus();
    }
    if (what.kind == Kind::kCall && MakesTensor(what.global.tag)) {
      SCONCE_ASSIGN_OR_RETURN(node_of_[value],
                              AddTensor(what.global, graph_.Items(graph_.Args(value)), graph_.State(value)));
      return absl::OkStatus();
    }
    node_of_[value] = kOpen;
    SCONCE_RETURN_IF_ERROR(PushFrame());
    return nodes_.Open(value, frames_.back());
  }

  // The first child of a tensor subclass: what the function makes that stands beside its arguments.
  absl::Status VisitInnerCall() {
    const absl::Span<const PickleIndex> outer = graph_.Items(graph_.Args(frames_.back().value));
    const PickleGlobal global = graph_[outer[0]].global;
    const PickleTag function = global.tag;
    const absl::Span<const PickleIndex> args = graph_.Items(outer[2]);
    if (MakesTensor(function)) {
      SCONCE_ASSIGN_OR_RETURN(const NodeIndex tensor, AddTensor(global, args, PickleGraph::kAbsent));
      frames_.back().children.push_back(tensor);
      return absl::OkStatus();
    }
    SCONCE_RETURN_IF_ERROR(PushFrame());
    return nodes_.OpenCall(function, args, frames_.back());
  }

  absl::StatusOr<NodeIndex> AddTensor(PickleGlobal function, absl::Span<const PickleIndex> args, PickleIndex state) {
    Node node;
    node.kind = NodeKind::kTensor;
    SCONCE_ASSIGN_OR_RETURN(node.tensor, tensors_.Read(function, args, state));
    return nodes_.Add(std::move(node));
  }

  // Every frame becomes a node.
  absl::Status PushFrame() {
    if (frames_.size() + file_.manifest.nodes.size() >= kMaxNodes)
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       absl::StrCat("the tree has more than ", kMaxNodes, " objects; nest less"));
    frames_.emplace_back();
    return absl::OkStatus();
  }

  absl::Status Close() {
    SCONCE_ASSIGN_OR_RETURN(const NodeIndex node, nodes_.Close(frames_.back()));
    const PickleIndex value = frames_.back().value;
    frames_.pop_back();
    if (value == PickleGraph::kAbsent) {
      frames_.back().children.push_back(node);
    } else {
      node_of_[value] = node;
    }
    return absl::OkStatus();
  }

  // Where the walk is, as a path of keys and positions; long ones lose their middle.
  std::string Place() const {
    constexpr size_t kEnds = 8;
    std::string path = "at ";
    for (size_t i = 0; i < frames_.size(); ++i) {
      if (frames_.size() > 2 * kEnds && i == kEnds) {
        i = frames_.size() - kEnds;
        path += "/...";
      }
      path += Segment(frames_[i]);
    }
    return path == "at " ? "at the top" : path;
  }
  std::string Segment(const TreeFrame& frame) const {
    const size_t position = frame.children.size();
    if (position >= frame.todo.size()) return "";
    switch (frame.kind) {
      case NodeKind::kList:
      case NodeKind::kTuple:
      case NodeKind::kSet:
        return absl::StrCat("/", position);
      case NodeKind::kDict:
      case NodeKind::kOrderedDict:
      case NodeKind::kCounter:
        break;
      default:
        return "";  // a tensor and the like, which paths take for one
    }
    const PickleIndex key = frame.todo[position - position % 2];
    if (graph_[key].kind == Kind::kStr) {
      const std::string quoted = Quoted(graph_.Text(key), 60);
      return absl::StrCat("/", quoted.substr(1, quoted.size() - 2));
    }
    return graph_[key].kind == Kind::kInt ? absl::StrCat("/", graph_[key].integer)
                                          : absl::StrCat("/item ", position / 2);
  }

  const PickleGraph& graph_;
  TorchIndex file_;
  TorchValues values_;
  TorchTensors tensors_;
  TreeNodes nodes_;
  std::vector<NodeIndex> node_of_;  // of each value
  std::vector<TreeFrame> frames_;
};

}  // namespace

absl::StatusOr<TorchIndex> BuildTorchTree(const PickleGraph& graph, StorageLookup lookup) {
  return TreeBuilder(graph, lookup).Build();
}

}  // namespace sconce::format
