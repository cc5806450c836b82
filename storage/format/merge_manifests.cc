// A place is what the parts have at one path: a node of each part that has something there. Places are merged depth
// first with a stack of our own. One that only one part has is copied; one where several have dicts becomes a new dict.
// The same nodes merged again are the same node of the result, so that sharing survives.
//
// Where nodes cannot be united, a None stands in for them and the conflict is noted beside it; the paths are then read
// off the result as any reader would see them.

#include "storage/format/merge_manifests.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/node_layout.h"
#include "storage/format/path.h"
#include "storage/format/shard_cover.h"
#include "storage/format/subtree_copier.h"
#include "storage/format/value_key.h"

namespace sconce::format {
namespace {

constexpr size_t kShown = 8;  // paths, and index ranges of each, in one message

struct Source {
  size_t part;
  NodeIndex node;
  friend bool operator==(const Source& a, const Source& b) { return a.part == b.part && a.node == b.node; }
  template <typename H>
  friend H AbslHashValue(H h, const Source& s) {
    return H::combine(std::move(h), s.part, s.node);
  }
};
using Place = std::vector<Source>;  // ascending by part, at most one of each

bool IsDict(NodeKind kind) {
  return kind == NodeKind::kDict || kind == NodeKind::kOrderedDict || kind == NodeKind::kCounter;
}

class Merger {
 public:
  explicit Merger(absl::Span<const Manifest* const> parts) : parts_(parts) {}

  absl::StatusOr<MergedManifest> Run() {
    SCONCE_RETURN_IF_ERROR(Prepare());
    Place root;
    for (size_t i = 0; i < parts_.size(); ++i) root.push_back({i, parts_[i]->root()});
    SCONCE_RETURN_IF_ERROR(MergeTree(std::move(root)));
    SCONCE_RETURN_IF_ERROR(CheckShards());
    if (!conflicts_.empty()) return Failure(Reason::PARTS_OVERLAP, conflicts_);
    if (!gaps_.empty()) return Failure(Reason::PARTS_INCOMPLETE, gaps_);
    SCONCE_RETURN_IF_ERROR(Validate(merged_.manifest));
    return std::move(merged_);
  }

 private:
  // One key of a united dict, and what stands under it.
  struct Item {
    Source key;
    Place value;
  };
  // A dict being united.
  struct Frame {
    Place place;
    bool in_attributes;
    std::vector<Item> items;
    Place attributes;  // the __dict__s of OrderedDicts
    size_t next = 0;   // the item whose value is being merged; items.size() for the attributes
    std::vector<NodeIndex> children;
    size_t conflicts_before_attributes = 0;
  };
  struct Conflict {
    NodeIndex node;  // of the result
    std::string text;
  };

  absl::Status Prepare() {
    size_t nodes = 0;
    size_t edges = 0;
    size_t text = 0;
    Manifest& to = merged_.manifest;
    for (const Manifest* part : parts_) {
      nodes += part->nodes.size();
      for (const Node& node : part->nodes) {
        edges += node.children.size();
        text += node.text.size();
      }
      const size_t first = to.storages.size();
      if (first + part->storages.size() > kMaxNodes) return TooLarge("storages");
      to.storages.insert(to.storages.end(), part->storages.begin(), part->storages.end());
      merged_.storage_of.emplace_back(part->storages.size());
      std::iota(merged_.storage_of.back().begin(), merged_.storage_of.back().end(), static_cast<StorageIndex>(first));
      to.derived = to.derived || part->derived;
      copiers_.emplace_back(*part, to.nodes, to.tensors, static_cast<StorageIndex>(first));
      key_ids_of_.emplace_back(part->nodes.size());
    }
    key_budget_ = (size_t{1} << 20) + 64 * (edges + nodes) + 4 * text;
    work_ = (size_t{1} << 16) + 8 * (edges + nodes);
    return absl::OkStatus();
  }

  static absl::Status TooLarge(absl::string_view what) {
    return MakeError(Reason::INPUT_LIMIT_EXCEEDED, absl::StrCat("the parts of the upload together have too many ", what,
                                                                "; at most ", kMaxNodes, " are accepted"));
  }

  const Node& At(const Source& source) const { return parts_[source.part]->nodes[source.node]; }

  absl::Status MergeTree(Place root) {
    NodeIndex done = kNoIndex;
    SCONCE_RETURN_IF_ERROR(Begin(std::move(root), false, done));
    while (!stack_.empty()) {
      Frame& frame = stack_.back();
      if (done != kNoIndex) {
        frame.children.push_back(done);
        done = kNoIndex;
        ++frame.next;
      }
      if (merged_.manifest.nodes.size() > kMaxNodes) return TooLarge("nodes");
      if (frame.next < frame.items.size()) {
        Item& item = frame.items[frame.next];
        frame.children.push_back(copiers_[item.key.part].Copy(item.key.node));
        SCONCE_RETURN_IF_ERROR(Begin(std::move(item.value), frame.in_attributes, done));
      } else if (frame.next == frame.items.size() && !frame.attributes.empty()) {
        frame.conflicts_before_attributes = conflicts_.size();
        SCONCE_RETURN_IF_ERROR(Begin(std::move(frame.attributes), true, done));
      } else {
        done = Finish(frame);
        stack_.pop_back();
      }
    }
    return absl::OkStatus();
  }

  // Merges a place: at once into `done`, or with a new frame on the stack.
  absl::Status Begin(Place place, bool in_attributes, NodeIndex& done) {
    if (place.size() == 1) {
      done = copiers_[place[0].part].Copy(place[0].node);
      return absl::OkStatus();
    }
    if (const auto it = known_.find({place, in_attributes}); it != known_.end()) {
      done = it->second;
      return absl::OkStatus();
    }
    const NodeKind kind = At(place[0]).kind;
    const bool one_kind = std::all_of(place.begin(), place.end(), [&](const Source& s) { return At(s).kind == kind; });
    if (one_kind && IsDict(kind)) return BeginDict(std::move(place), in_attributes);
    SCONCE_RETURN_IF_ERROR(Spend(place.size()));
    if (one_kind && kind == NodeKind::kShardedTensor) {
      SCONCE_RETURN_IF_ERROR(UniteShards(place, done));
    } else if (in_attributes && AllEqual(place)) {
      done = copiers_[place[0].part].Copy(place[0].node);
    } else {
      done = Stand(place);
    }
    known_.emplace(std::make_pair(std::move(place), in_attributes), done);
    return absl::OkStatus();
  }

  absl::Status BeginDict(Place place, bool in_attributes) {
    Frame frame;
    frame.in_attributes = in_attributes;
    absl::flat_hash_map<uint32_t, size_t> position;
    for (const Source& source : place) {
      const std::vector<NodeIndex>& children = At(source).children;
      SCONCE_RETURN_IF_ERROR(Spend(children.size() + 1));
      for (size_t i = 0; i + 1 < children.size(); i += 2) {
        uint32_t id = 0;
        SCONCE_RETURN_IF_ERROR(KeyId({source.part, children[i]}, id));
        const auto [it, added] = position.emplace(id, frame.items.size());
        if (added) frame.items.push_back({{source.part, children[i]}, {}});
        frame.items[it->second].value.push_back({source.part, children[i + 1]});
      }
      if (children.size() % 2 != 0) frame.attributes.push_back({source.part, children.back()});
    }
    frame.place = std::move(place);
    stack_.push_back(std::move(frame));
    return absl::OkStatus();
  }

  NodeIndex Finish(Frame& frame) {
    Node node;
    node.kind = At(frame.place[0]).kind;
    node.children = std::move(frame.children);
    const NodeIndex made = Add(std::move(node));
    if (frame.next > frame.items.size()) {  // what is in the attributes has no path but that of their owner
      for (size_t i = frame.conflicts_before_attributes; i < conflicts_.size(); ++i) {
        conflicts_[i].node = made;
        if (!frame.in_attributes) conflicts_[i].text = "has a value in its __dict__ that " + conflicts_[i].text;
      }
    }
    known_.emplace(std::make_pair(std::move(frame.place), frame.in_attributes), made);
    return made;
  }

  NodeIndex Add(Node node) {
    merged_.manifest.nodes.push_back(std::move(node));
    return merged_.manifest.root();
  }

  // Without sharing, every child is looked at once.
  absl::Status Spend(size_t steps) {
    if (steps > work_) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       "the parts of the upload share dicts within themselves so that together they would become many "
                       "times larger; save them without sharing dicts");
    }
    work_ -= steps;
    return absl::OkStatus();
  }

  // Keys that Python takes for one have one number.
  absl::Status KeyId(const Source& key, uint32_t& id) {
    uint32_t& known = key_ids_of_[key.part][key.node];
    if (known == 0) {
      std::string text;
      if (!AppendDictKey(parts_[key.part]->nodes, key.node, key_budget_, text)) {
        return MakeError(Reason::INPUT_LIMIT_EXCEEDED, "the tuples in the keys of the parts are too large");
      }
      key_budget_ -= text.size();
      if (IsNanKey(At(key))) absl::StrAppend(&text, "#", key.part, ",", key.node);
      known = key_ids_.emplace(std::move(text), static_cast<uint32_t>(key_ids_.size() + 1)).first->second;
    }
    id = known;
    return absl::OkStatus();
  }

  bool AllEqual(const Place& place) {
    return std::all_of(place.begin() + 1, place.end(), [&](const Source& other) { return Equal(place[0], other); });
  }

  // Equal as data, to the last bit; of what has a storage, never. Each pair of nodes is looked at once.
  bool Equal(const Source& a, const Source& b) {
    std::vector<std::pair<NodeIndex, NodeIndex>> pending = {{a.node, b.node}};
    absl::flat_hash_set<std::pair<NodeIndex, NodeIndex>> seen = {pending[0]};
    while (!pending.empty()) {
      const Node& x = parts_[a.part]->nodes[pending.back().first];
      const Node& y = parts_[b.part]->nodes[pending.back().second];
      pending.pop_back();
      std::string x_record;
      std::string y_record;
      AppendLeafRecord(x, x_record);
      AppendLeafRecord(y, y_record);
      if (x_record != y_record || x.tensor != kNoIndex || x.kind == NodeKind::kStorage) return false;
      if (!Spend(x.children.size() + 1).ok()) return false;
      for (size_t i = 0; i < x.children.size(); ++i) {
        const std::pair<NodeIndex, NodeIndex> children = {x.children[i], y.children[i]};
        if (seen.insert(children).second) pending.push_back(children);
      }
    }
    return true;
  }

  // Notes that a place cannot be united, and puts None there.
  NodeIndex Stand(const Place& place) {
    const auto kind = [&](size_t i) {
      return absl::StrCat("part ", place[i].part, " (", TypeName(At(place[i]).kind), ")");
    };
    std::string text = absl::StrCat("is in ", kind(0), " and ", kind(1));
    if (place.size() > 2) absl::StrAppend(&text, " and ", place.size() - 2, " more");
    return Stand(std::move(text));
  }
  NodeIndex Stand(std::string text) {
    const NodeIndex node = Add(Node());
    conflicts_.push_back({node, std::move(text)});
    return node;
  }

  DType ShardDType(const Source& source, size_t child) const {
    const Manifest& part = *parts_[source.part];
    return part.tensors[part.nodes[part.nodes[source.node].children[child]].tensor].dtype;
  }
  static Dims Ints(const Manifest& manifest, NodeIndex node) {
    Dims ints;
    for (const NodeIndex child : manifest.nodes[node].children) ints.push_back(manifest.nodes[child].integer);
    return ints;
  }

  absl::Status UniteShards(const Place& place, NodeIndex& done) {
    const Dims global = Ints(*parts_[place[0].part], At(place[0]).children[0]);
    const Source* first = nullptr;  // a part that has a shard
    Node united;
    united.kind = NodeKind::kShardedTensor;
    united.children.push_back(copiers_[place[0].part].Copy(At(place[0]).children[0]));
    std::vector<size_t> owners;
    for (const Source& source : place) {
      const std::vector<NodeIndex>& children = At(source).children;
      SCONCE_RETURN_IF_ERROR(Spend(children.size()));
      const Dims shape = Ints(*parts_[source.part], children[0]);
      if (shape != global) {
        done = Stand(absl::StrCat("is sharded in part ", place[0].part, " with shape [", absl::StrJoin(global, ", "),
                                  "] and in part ", source.part, " with shape [", absl::StrJoin(shape, ", "), "]"));
        return absl::OkStatus();
      }
      for (size_t i = 1; i < children.size(); ++i) {
        if (i % 3 == 0) {
          if (first == nullptr) first = &source;
          if (ShardDType(source, i) != ShardDType(*first, 3)) {
            done = Stand(absl::StrCat("has shards of ", DTypeName(ShardDType(*first, 3)), " in part ", first->part,
                                      " and of ", DTypeName(ShardDType(source, i)), " in part ", source.part));
            return absl::OkStatus();
          }
          owners.push_back(source.part);
        }
        united.children.push_back(copiers_[source.part].Copy(children[i]));
      }
    }
    done = Add(std::move(united));
    shard_owners_.emplace(done, std::move(owners));
    return absl::OkStatus();
  }

  // Also those that are in one part only, and so were copied: the others were to hold the rest.
  absl::Status CheckShards() {
    const Manifest& manifest = merged_.manifest;
    for (NodeIndex i = 0; i < manifest.nodes.size(); ++i) {
      const Node& node = manifest.nodes[i];
      if (node.kind != NodeKind::kShardedTensor) continue;
      std::vector<Box> shards;
      for (size_t at = 1; at < node.children.size(); at += 3) {
        shards.push_back({Ints(manifest, node.children[at]), Ints(manifest, node.children[at + 1])});
      }
      SCONCE_ASSIGN_OR_RETURN(const ShardCover cover, CoverOf(Ints(manifest, node.children[0]), shards, kShown));
      const auto owner = shard_owners_.find(i);
      for (const ShardOverlap& overlap : cover.overlaps) {
        std::string text = absl::StrCat(BoxText(overlap.box), " is ");
        if (owner == shard_owners_.end()) {
          text += "twice in one part";
        } else {
          absl::StrAppend(&text, "in part ", owner->second[overlap.first], " and in part ",
                          owner->second[overlap.second]);
        }
        conflicts_.push_back({i, std::move(text)});
      }
      for (const Box& gap : cover.gaps) gaps_.push_back({i, absl::StrCat(BoxText(gap), " is in no part")});
    }
    return absl::OkStatus();
  }

  absl::Status Failure(Reason reason, const std::vector<Conflict>& problems) const {
    absl::flat_hash_map<NodeIndex, std::vector<const Conflict*>> at;
    for (const Conflict& problem : problems) at[problem.node].push_back(&problem);
    std::vector<std::string> shown;
    std::string first_path;
    // A tree with too many paths to walk still has shown its first ones, or is reported without.
    ForEachPath(merged_.manifest, [&](absl::string_view path, NodeIndex node) {
      const auto it = at.find(node);
      if (it == at.end()) return true;
      if (shown.empty()) first_path = std::string(path.substr(0, 200));
      for (const Conflict* problem : it->second) {
        if (shown.size() < kShown) shown.push_back(absl::StrCat(Quoted(path), " ", problem->text));
      }
      return shown.size() < kShown;
    }).IgnoreError();
    if (shown.empty()) shown.push_back(problems[0].text);
    const size_t more = problems.size() - std::min(problems.size(), shown.size());
    const absl::string_view advice = reason == Reason::PARTS_OVERLAP
                                         ? "each path, and each slice of a sharded tensor, must be pushed by one writer"
                                         : "all slices of a sharded tensor must be pushed";
    return MakeError(reason,
                     absl::StrCat("the parts of the upload do not make up one checkpoint: ", absl::StrJoin(shown, "; "),
                                  more > 0 ? absl::StrCat("; and ", more, " more") : "", ": ", advice),
                     {{"path", first_path}, {"problems", absl::StrCat(problems.size())}});
  }

  const absl::Span<const Manifest* const> parts_;
  MergedManifest merged_;
  std::vector<NodeCopier> copiers_;
  std::vector<Frame> stack_;
  absl::flat_hash_map<std::pair<Place, bool>, NodeIndex> known_;
  size_t work_ = 0;

  std::vector<std::vector<uint32_t>> key_ids_of_;  // [part][node]; 0: not given yet
  absl::flat_hash_map<std::string, uint32_t> key_ids_;
  size_t key_budget_ = 0;

  absl::flat_hash_map<NodeIndex, std::vector<size_t>> shard_owners_;  // of united sharded tensors: each shard's part
  std::vector<Conflict> conflicts_;
  std::vector<Conflict> gaps_;
};

}  // namespace

absl::StatusOr<MergedManifest> MergeManifests(absl::Span<const Manifest* const> parts) {
  if (parts.empty()) return MakeError(Reason::ARGUMENT_INVALID, "an upload of no parts cannot be made into a version");
  if (parts.size() > 1) return Merger(parts).Run();
  MergedManifest same;
  same.manifest = *parts[0];
  same.storage_of.emplace_back(parts[0]->storages.size());
  std::iota(same.storage_of[0].begin(), same.storage_of[0].end(), StorageIndex{0});
  return same;
}

}  // namespace sconce::format
