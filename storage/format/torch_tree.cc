#include "storage/format/torch_tree.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_keys.h"
#include "storage/format/torch_values.h"
#include "storage/format/value_key.h"

namespace sconce::format {
namespace {

using Kind = PickleValue::Kind;

// Walks the values below the root depth first, with a stack of its own, and gives each its node once all its children
// have theirs. A value met again is the same node; one met again while it is still open contains itself.
class TreeBuilder {
 public:
  TreeBuilder(const PickleGraph& graph, StorageLookup lookup)
      : graph_(graph), values_(graph, lookup), keys_(graph), node_of_(graph.size(), kNoIndex) {}

  absl::StatusOr<TorchIndex> Build() {
    if (const absl::Status walked = Walk(); !walked.ok()) return Annotate(walked, Place());
    TorchIndex file;
    file.manifest.nodes = std::move(nodes_);
    file.manifest.tensors = std::move(values_.tensors);
    file.manifest.storages = std::move(values_.storages);
    file.records = std::move(values_.records);
    return file;
  }

 private:
  static constexpr NodeIndex kOpen = kNoIndex - 1;  // in node_of_: being built

  struct Frame {
    PickleIndex value = PickleGraph::kAbsent;
    NodeKind kind = NodeKind::kNone;
    int64_t integer = 0;
    std::vector<PickleIndex> todo;
    std::vector<NodeIndex> children;
  };

  absl::Status Walk() {
    SCONCE_RETURN_IF_ERROR(Visit(graph_.root()));
    while (!frames_.empty()) {
      Frame& top = frames_.back();
      if (top.children.size() == top.todo.size()) {
        SCONCE_RETURN_IF_ERROR(Close());
        continue;
      }
      const PickleIndex next = top.todo[top.children.size()];
      if (node_of_[next] == kOpen) {
        return MakeError(Reason::FILE_UNSUPPORTED, "an object contains itself; remove the cycle before saving");
      }
      if (node_of_[next] != kNoIndex) {
        top.children.push_back(node_of_[next]);
      } else {
        SCONCE_RETURN_IF_ERROR(
            Visit(next));  // may move `top`; a frame that it opens is met again above once it is closed
      }
    }
    return absl::OkStatus();
  }

  absl::Status Visit(PickleIndex value) {
    if (!values_.IsLeaf(value)) return Open(value);
    SCONCE_ASSIGN_OR_RETURN(Node node, values_.Read(value));
    return AddNode(value, std::move(node));
  }

  absl::Status AddNode(PickleIndex value, Node node) {
    if (nodes_.size() >= kMaxNodes) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED, absl::StrCat("the tree has more than ", kMaxNodes,
                                                                  " objects; keep long lists of numbers in tensors"));
    }
    node_of_[value] = static_cast<NodeIndex>(nodes_.size());
    nodes_.push_back(std::move(node));
    return absl::OkStatus();
  }

  absl::Status Open(PickleIndex value) {
    Frame frame;
    frame.value = value;
    frames_.push_back(std::move(frame));
    node_of_[value] = kOpen;
    Frame& top = frames_.back();
    switch (graph_[value].kind) {
      case Kind::kTuple:
        return Take(top, NodeKind::kTuple, graph_.Items(value));
      case Kind::kList:
        return Take(top, NodeKind::kList, graph_.Items(value));
      case Kind::kSet:
        return TakeSet(top, graph_.Items(value));
      case Kind::kDict:
        return TakeDict(top, NodeKind::kDict, graph_.Items(value));
      default:
        return OpenCall(top);
    }
  }

  absl::Status Take(Frame& frame, NodeKind kind, absl::Span<const PickleIndex> items) {
    frame.kind = kind;
    frame.todo.assign(items.begin(), items.end());
    return absl::OkStatus();
  }

  absl::Status TakeDict(Frame& frame, NodeKind kind, absl::Span<const PickleIndex> items) {
    frame.kind = kind;
    if (keys_.Deduplicate(items, frame.todo)) return absl::OkStatus();
    frame.todo.clear();
    return MakeError(Reason::FILE_MALFORMED,
                     "a dict has a key that cannot be one; keys are strs, numbers and the like, and tuples of them");
  }

  absl::Status TakeSet(Frame& frame, absl::Span<const PickleIndex> elements) {
    frame.kind = NodeKind::kSet;
    if (keys_.DeduplicateSet(elements, frame.todo)) return absl::OkStatus();
    frame.todo.clear();
    return MakeError(Reason::FILE_UNSUPPORTED,
                     "a set of something else than strs, numbers and the like, and tuples of them");
  }

  absl::Status OpenCall(Frame& frame) {
    const absl::Span<const PickleIndex> args = graph_.Items(graph_.Args(frame.value));
    switch (graph_[frame.value].global.tag) {
      case PickleTag::kOrderedDict: {
        if (!args.empty())
          return MakeError(Reason::FILE_UNSUPPORTED,
                           "an OrderedDict as Python 2 writes it; load and save it with a newer Python");
        SCONCE_RETURN_IF_ERROR(TakeDict(frame, NodeKind::kOrderedDict, graph_.Items(frame.value)));
        const PickleIndex state = graph_.State(frame.value);
        if (state == PickleGraph::kAbsent) return absl::OkStatus();
        if (graph_[state].kind != Kind::kDict)
          return MakeError(Reason::FILE_MALFORMED, "an OrderedDict's attributes are not a dict");
        frame.todo.push_back(state);
        return absl::OkStatus();
      }
      case PickleTag::kCounter: {
        std::vector<PickleIndex> items;
        if (!args.empty()) {
          SCONCE_ASSIGN_OR_RETURN(const absl::Span<const PickleIndex> counts, OnlyArgument(args, Kind::kDict));
          items.assign(counts.begin(), counts.end());
        }
        const absl::Span<const PickleIndex> own = graph_.Items(frame.value);
        items.insert(items.end(), own.begin(), own.end());
        return TakeDict(frame, NodeKind::kCounter, items);
      }
      case PickleTag::kSet: {
        if (args.empty()) return TakeSet(frame, {});
        SCONCE_ASSIGN_OR_RETURN(const absl::Span<const PickleIndex> elements, OnlyArgument(args, Kind::kList));
        return TakeSet(frame, elements);
      }
      case PickleTag::kSize: {
        SCONCE_ASSIGN_OR_RETURN(const absl::Span<const PickleIndex> extents, OnlyArgument(args, Kind::kTuple));
        for (const PickleIndex extent : extents) {
          if (graph_[extent].kind != Kind::kInt)
            return MakeError(Reason::FILE_MALFORMED, "a torch.Size of something else than ints");
        }
        return Take(frame, NodeKind::kSize, extents);
      }
      default:
        return OpenParameter(frame, args);
    }
  }

  // The container that a call takes as its one argument. It is read as part of the call, so each element counts.
  absl::StatusOr<absl::Span<const PickleIndex>> OnlyArgument(absl::Span<const PickleIndex> args, Kind kind) {
    if (args.size() != 1 || graph_[args[0]].kind != kind)
      return MakeError(Reason::FILE_MALFORMED, "a container is made from something unexpected");
    const absl::Span<const PickleIndex> items = graph_.Items(args[0]);
    SCONCE_RETURN_IF_ERROR(values_.Charge(items.size()));
    return items;
  }

  // _rebuild_parameter(tensor, requires_grad, hooks), _rebuild_parameter_with_state(..., state), Parameter(tensor,
  // [requires_grad])
  absl::Status OpenParameter(Frame& frame, absl::Span<const PickleIndex> args) {
    const PickleTag tag = graph_[frame.value].global.tag;
    const bool has_state = tag == PickleTag::kRebuildParameterWithState;
    const size_t least = tag == PickleTag::kParameter ? 1 : has_state ? 4 : 3;
    const size_t most = tag == PickleTag::kParameter ? 2 : least;
    if (args.size() < least || args.size() > most)
      return MakeError(Reason::FILE_MALFORMED, "a Parameter has too few or too many arguments");
    if (graph_[args[0]].kind != Kind::kCall) return MakeError(Reason::FILE_MALFORMED, "a Parameter without a tensor");
    frame.kind = NodeKind::kParameter;
    frame.integer = 1;
    if (args.size() > 1) {
      SCONCE_ASSIGN_OR_RETURN(const bool requires_grad, values_.ReadBool(args[1]));
      frame.integer = requires_grad ? 1 : 0;
    }
    if (args.size() > 2) SCONCE_RETURN_IF_ERROR(values_.CheckHooks(args[2]));
    frame.todo.push_back(args[0]);
    if (has_state) frame.todo.push_back(args[3]);
    return absl::OkStatus();
  }

  absl::Status Close() {
    Frame& frame = frames_.back();
    Node node;
    node.kind = frame.kind;
    node.integer = frame.integer;
    node.children = std::move(frame.children);
    if (node.kind == NodeKind::kSet) SCONCE_RETURN_IF_ERROR(SortSetElements(nodes_, node.children));
    if (node.kind == NodeKind::kParameter) {
      const bool tensor = nodes_[node.children[0]].kind == NodeKind::kTensor;
      const NodeKind state = node.children.size() < 2 ? NodeKind::kDict : nodes_[node.children[1]].kind;
      if (!tensor || (state != NodeKind::kDict && state != NodeKind::kTuple)) {
        frame.children = std::move(node.children);
        return MakeError(Reason::FILE_MALFORMED, "a Parameter without a tensor, or with a state that is none");
      }
    }
    const PickleIndex value = frame.value;
    frames_.pop_back();
    return AddNode(value, std::move(node));
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
  std::string Segment(const Frame& frame) const {
    const size_t position = frame.children.size();
    if (position >= frame.todo.size()) return "";
    if (frame.kind == NodeKind::kParameter) return "";
    const bool keyed =
        frame.kind == NodeKind::kDict || frame.kind == NodeKind::kOrderedDict || frame.kind == NodeKind::kCounter;
    if (!keyed) return absl::StrCat("/", position);
    const PickleIndex key = frame.todo[position - position % 2];
    if (graph_[key].kind == Kind::kStr) {
      const std::string quoted = Quoted(graph_.Text(key), 60);
      return absl::StrCat("/", quoted.substr(1, quoted.size() - 2));
    }
    return graph_[key].kind == Kind::kInt ? absl::StrCat("/", graph_[key].integer)
                                          : absl::StrCat("/item ", position / 2);
  }

  const PickleGraph& graph_;
  TorchValues values_;
  PickleKeys keys_;
  std::vector<NodeIndex> node_of_;
  std::vector<Frame> frames_;
  std::vector<Node> nodes_;
};

}  // namespace

absl::StatusOr<TorchIndex> BuildTorchTree(const PickleGraph& graph, StorageLookup lookup) {
  return TreeBuilder(graph, lookup).Build();
}

}  // namespace sconce::format
