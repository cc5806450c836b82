#include "storage/format/entries.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/node_layout.h"
#include "storage/format/numpy_dtype.h"
#include "storage/format/path.h"
#include "storage/format/python_repr.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxValueBytes = 120;

int64_t SaturatingAdd(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<int64_t>::max() : sum;
}

// Of a shape that is known to be valid; saturates where it is not an int64.
int64_t Elements(const Dims& shape) {
  const int64_t count = ElementCount(shape);
  return count < 0 ? std::numeric_limits<int64_t>::max() : count;
}

int64_t ViewBytes(const TensorView& view) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(Elements(view.shape), ElementBytes(view.dtype), &bytes)) {
    return std::numeric_limits<int64_t>::max();  // an expanded tensor of more than 2^63 bytes
  }
  return bytes;
}

Dims ShapeOf(const Manifest& manifest, const Node& sizes) {
  Dims shape;
  for (const NodeIndex extent : sizes.children) shape.push_back(manifest.nodes[extent].integer);
  return shape;
}

// What is to be said about one node, without its place.
class Describer {
 public:
  explicit Describer(const Manifest& manifest) : manifest_(manifest) {}

  Entry Describe(NodeIndex index) const {
    const Node& node = manifest_.nodes[index];
    Entry entry;
    entry.kind = node.kind;
    entry.type = std::string(TypeName(node.kind));
    switch (node.kind) {
      case NodeKind::kList:
      case NodeKind::kTuple:
        entry.children = static_cast<int64_t>(node.children.size());
        break;
      case NodeKind::kDict:
      case NodeKind::kOrderedDict:
      case NodeKind::kCounter:
        entry.children = static_cast<int64_t>(node.children.size() / 2);
        break;
      case NodeKind::kSet:
        entry.children = static_cast<int64_t>(node.children.size());
        entry.value = PythonRepr(manifest_, index, kMaxValueBytes);
        break;
      case NodeKind::kNumpyArray:
        NumpyArray(node, entry);
        break;
      case NodeKind::kStorage:
        entry.dtype = node.text;
        PutStorage(static_cast<StorageIndex>(node.integer), entry);
        if (entry.storage != kNoIndex) entry.bytes = manifest_.storages[entry.storage].size_bytes;
        break;
      case NodeKind::kParameter:
        Tensor(node.children[0], entry);
        entry.requires_grad = node.integer != 0;
        break;
      default:
        if (IsTensorKind(node.kind)) {
          Tensor(index, entry);
        } else {
          entry.value = PythonRepr(manifest_, index, kMaxValueBytes);
        }
    }
    return entry;
  }

 private:
  void PutStorage(StorageIndex storage, Entry& entry) const {
    if (entry.storage != kNoIndex || storage == kNoIndex) return;
    entry.storage = storage;
    entry.device = manifest_.storages[storage].device;
  }

  // Adds one strided tensor of those that the entry's tensor is made of.
  void Component(NodeIndex index, Entry& entry) const {
    const TensorView& view = manifest_.tensors[manifest_.nodes[index].tensor];
    PutStorage(view.storage, entry);
    entry.bytes = SaturatingAdd(entry.bytes, ViewBytes(view));
  }

  void Strided(const TensorView& view, Entry& entry) const {
    entry.dtype = std::string(DTypeName(view.dtype));
    entry.shape = view.shape;
    entry.stride = view.stride;
    entry.offset = view.offset;
    entry.requires_grad = view.requires_grad;
    entry.bytes = ViewBytes(view);
    PutStorage(view.storage, entry);
    if (view.storage == kNoIndex) entry.device = "meta";
  }

  // The dtype, and whether gradients are wanted, of the component that holds the values.
  void ValuesOf(NodeIndex index, Entry& entry) const {
    const TensorView& view = manifest_.tensors[manifest_.nodes[index].tensor];
    entry.dtype = std::string(DTypeName(view.dtype));
    entry.requires_grad = view.requires_grad;
  }

  // A tensor of any kind but Parameter.
  void Tensor(NodeIndex index, Entry& entry) const {
    const Node& node = manifest_.nodes[index];
    const std::vector<NodeIndex>& children = node.children;
    switch (node.kind) {
      case NodeKind::kTensor:
      case NodeKind::kQuantizedTensor:
        Strided(manifest_.tensors[node.tensor], entry);
        break;
      case NodeKind::kSparseTensor:
        for (size_t i = 2; i + 1 < children.size(); ++i) Component(children[i], entry);
        ValuesOf(children[children.size() - 2], entry);
        entry.shape = ShapeOf(manifest_, manifest_.nodes[children[1]]);
        break;
      case NodeKind::kNestedTensor:
        for (const NodeIndex part : children) Component(part, entry);
        ValuesOf(children[0], entry);
        break;
      case NodeKind::kShardedTensor:
        for (size_t i = 3; i < children.size(); i += 3) Component(children[i], entry);
        if (children.size() > 1) ValuesOf(children[3], entry);
        entry.shape = ShapeOf(manifest_, manifest_.nodes[children[0]]);
        break;
      case NodeKind::kTensorSubclass:
        Subclass(node, entry);
        break;
      default:
        break;
    }
  }

  // Looks like the first strided tensor among its constructor's arguments, if there is one; the class is the value.
  void Subclass(const Node& node, Entry& entry) const {
    for (const NodeIndex argument : manifest_.nodes[node.children[0]].children) {
      if (manifest_.nodes[argument].kind != NodeKind::kTensor) continue;
      Strided(manifest_.tensors[manifest_.nodes[argument].tensor], entry);
      break;
    }
    const std::vector<NodeIndex>& arguments = manifest_.nodes[node.children[0]].children;
    if (arguments.size() == kWrapperArguments && manifest_.nodes[arguments[0]].text == node.text)
      Wrapper(node, arguments, entry);
    entry.value = std::string(Utf8Prefix(node.text, kMaxValueBytes));
  }

  // The whole tensor's dtype and shape; the bytes are those of the tensor among its attributes, its part of the whole.
  void Wrapper(const Node& node, const std::vector<NodeIndex>& arguments, Entry& entry) const {
    const Node& dtype = manifest_.nodes[arguments[kWrapperDType]];
    const Node& shape = manifest_.nodes[arguments[kWrapperShape]];
    const Node& device = manifest_.nodes[arguments[kWrapperDevice]];
    if (dtype.kind == NodeKind::kDtype) entry.dtype = dtype.text;
    if (device.kind == NodeKind::kDevice) entry.device = device.text;
    if (shape.kind == NodeKind::kTuple || shape.kind == NodeKind::kSize) entry.shape = ShapeOf(manifest_, shape);
    if (manifest_.nodes[node.children[1]].children.empty()) return;
    const NodeIndex attributes = manifest_.nodes[node.children[1]].children.back();  // of (__dict__, slots)
    const std::vector<NodeIndex>& values = manifest_.nodes[attributes].children;
    for (size_t i = 0; i < std::min<size_t>(values.size(), 2 * kMaxRank); ++i) {
      if (manifest_.nodes[values[i]].kind != NodeKind::kTensor) continue;
      Component(values[i], entry);
      break;
    }
  }

  void NumpyArray(const Node& node, Entry& entry) const {
    entry.dtype = manifest_.nodes[node.children[0]].text;
    entry.shape = ShapeOf(manifest_, manifest_.nodes[node.children[1]]);
    const Node& data = manifest_.nodes[node.children[3]];
    if (data.kind == NodeKind::kStorage) PutStorage(static_cast<StorageIndex>(data.integer), entry);
    const std::optional<NumpyDtype> dtype = ParseNumpyDtype(entry.dtype);
    if (dtype.has_value()) entry.bytes = dtype->item_bytes * Elements(entry.shape);  // its data has that many
  }

  const Manifest& manifest_;
};

// Walks to the first wanted entry, only noting which storages have been shown, then describes.
class Lister final : public TreeVisitor {
 public:
  Lister(const Manifest& manifest, int64_t first, int64_t max_entries)
      : describer_(manifest),
        first_(first),
        max_entries_(max_entries),
        shown_(manifest.storages.size()),
        manifest_(manifest) {}

  Walk Enter(absl::string_view path, NodeIndex node) override {
    if (number_ >= first_ && static_cast<int64_t>(page_.entries.size()) == max_entries_) {
      page_.next = number_;
      return Walk::kStop;
    }
    const bool wanted = number_++ >= first_;
    const NodeKind kind = manifest_.nodes[node].kind;
    const bool has_data = IsTensorKind(kind) || kind == NodeKind::kStorage || kind == NodeKind::kNumpyArray;
    if (!wanted && (!has_data || !seen_.insert(node).second)) return Walk::kDescend;  // no storage, or marked already
    Entry entry = kind == NodeKind::kShardedTensor ? Sharded(node) : describer_.Describe(node);
    if (entry.storage != kNoIndex) {
      entry.shares_storage = shown_[entry.storage];
      shown_[entry.storage] = true;
    }
    if (!wanted) return Walk::kDescend;
    entry.path = std::string(path);
    page_.entries.push_back(std::move(entry));
    return Walk::kDescend;
  }
  void Leave(absl::string_view, NodeIndex) override {}

  EntryPage TakePage() { return std::move(page_); }

 private:
  // Kept, since there may be any number of shards to look at for each place that such a tensor is at.
  const Entry& Sharded(NodeIndex node) {
    const auto [it, added] = sharded_.try_emplace(node);
    if (added) it->second = describer_.Describe(node);
    return it->second;
  }

  const Describer describer_;
  const int64_t first_;
  const int64_t max_entries_;
  int64_t number_ = 0;
  std::vector<bool> shown_;
  absl::flat_hash_set<NodeIndex> seen_;
  absl::flat_hash_map<NodeIndex, Entry> sharded_;
  EntryPage page_;
  const Manifest& manifest_;
};

}  // namespace

Entry DescribeNode(const Manifest& manifest, NodeIndex node) {
  return Describer(manifest).Describe(node);
}

absl::StatusOr<EntryPage> ListEntries(const Manifest& manifest, int64_t first, int64_t max_entries) {
  if (first < 0 || max_entries < 0) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("entries ", first, " and ", max_entries, " after that: neither may be negative"));
  }
  Lister lister(manifest, first, max_entries);
  SCONCE_RETURN_IF_ERROR(WalkTree(manifest, manifest.root(), lister));
  return lister.TakePage();
}

Totals CountTotals(const Manifest& manifest) {
  Totals totals;
  const Describer describer(manifest);
  // From the root down the table: a parent is always seen before its children.
  std::vector<bool> is_place(manifest.nodes.size());
  is_place[manifest.root()] = true;
  for (NodeIndex i = static_cast<NodeIndex>(manifest.nodes.size()); i-- > 0;) {
    if (!is_place[i]) continue;
    const Node& node = manifest.nodes[i];
    if (HasPathsBelow(node.kind)) {
      const bool sequence = node.kind == NodeKind::kList || node.kind == NodeKind::kTuple;
      for (size_t at = sequence ? 0 : 1; at < node.children.size(); at += sequence ? 1 : 2)
        is_place[node.children[at]] = true;
    } else if (IsTensorKind(node.kind)) {
      const Entry entry = describer.Describe(i);
      ++totals.tensors;
      totals.parameters_elements = SaturatingAdd(totals.parameters_elements, Elements(entry.shape));
      totals.tensor_bytes = SaturatingAdd(totals.tensor_bytes, entry.bytes);
    } else {
      ++totals.scalars;
    }
  }
  totals.storages = static_cast<int64_t>(manifest.storages.size());
  for (const Storage& storage : manifest.storages) {
    if (!IsMetaDevice(storage.device)) totals.storage_bytes = SaturatingAdd(totals.storage_bytes, storage.size_bytes);
  }
  return totals;
}

}  // namespace sconce::format
