#include "storage/format/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/path.h"
#include "storage/format/python_repr.h"
#include "storage/format/row_major_reader.h"
#include "storage/format/safetensors_header.h"
#include "storage/format/safetensors_reader.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxScalarBytes = 4096;  // of a scalar's text; longer ones are left out
constexpr size_t kNamedInNotes = 3;

absl::Status Unsupported(absl::string_view path, absl::string_view what, absl::string_view advice) {
  return MakeError(
      Reason::FILE_UNSUPPORTED,
      absl::StrCat("safetensors cannot hold ", what, " (at ", Quoted(path.empty() ? "/" : path), "); ", advice),
      {{"path", std::string(ToStd(path))}});
}

constexpr char kUsePt[] = "exclude it, or export as pt";

// What is in the file: a tensor by its name.
struct Planned {
  std::string name;
  std::string path;
  TensorIndex tensor = kNoIndex;
};

// Collects what goes into the file, in the order of the tree.
class Collector : public TreeVisitor {
 public:
  explicit Collector(const Manifest& manifest) : manifest_(manifest), seen_storages_(manifest.storages.size(), false) {}

  Walk Enter(absl::string_view path, NodeIndex index) override {
    const Node& node = manifest_.nodes[index];
    if (HasPathsBelow(node.kind)) return Walk::kDescend;
    status_ = Take(path, node, index);
    return status_.ok() ? Walk::kSkipChildren : Walk::kStop;
  }
  void Leave(absl::string_view, NodeIndex) override {}

  const absl::Status& status() const { return status_; }
  std::vector<Planned> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;
  bool has_metadata = false;

  void TakeMetadata(const Node& root);
  std::vector<std::string> Notes() const;

 private:
  absl::Status Take(absl::string_view path, const Node& node, NodeIndex index);
  absl::Status TakeTensor(absl::string_view path, const Node& node);
  void TakeScalar(absl::string_view path, const Node& node, NodeIndex index);
  // "a.0.b" for "/a/0/b"; nullopt when a key on the way is neither a str nor an int, or no UTF-8.
  static std::optional<std::string> Name(absl::string_view path);

  const Manifest& manifest_;
  absl::Status status_;
  absl::flat_hash_set<std::string> names_;  // of metadata
  std::vector<bool> seen_storages_;
  int64_t shared_ = 0, shared_bytes_ = 0, reordered_ = 0, parameters_ = 0, scalars_ = 0;
  std::vector<std::string> left_out_;
  int64_t left_out_count_ = 0;
};

std::optional<std::string> Collector::Name(absl::string_view path) {
  std::string name;
  bool first = true;
  for (const absl::string_view segment : absl::StrSplit(path.substr(1), '/')) {
    if (!first) name.push_back('.');
    first = false;
    absl::string_view key = segment;
    if (key.substr(0, 2) == "~k") return std::nullopt;
    if (key.substr(0, 2) == "~s") key.remove_prefix(2);
    name += absl::StrReplaceAll(key, {{"~1", "/"}, {"~0", "~"}});
  }
  if (!IsUtf8(name, /*allow_surrogates=*/false)) return std::nullopt;
  return name;
}

absl::Status Collector::Take(absl::string_view path, const Node& node, NodeIndex index) {
  switch (node.kind) {
    case NodeKind::kTensor:
      return TakeTensor(path, node);
    case NodeKind::kParameter: {
      const Node& tensor = manifest_.nodes[node.children[0]];
      if (tensor.kind != NodeKind::kTensor) return Take(path, tensor, node.children[0]);
      ++parameters_;
      return TakeTensor(path, tensor);
    }
    case NodeKind::kSparseTensor:
    case NodeKind::kQuantizedTensor:
    case NodeKind::kNestedTensor:
    case NodeKind::kTensorSubclass:
    case NodeKind::kShardedTensor:
    case NodeKind::kNumpyArray:
    case NodeKind::kStorage:
      return Unsupported(path, absl::StrCat("a ", TypeName(node.kind)), kUsePt);
    default:
      TakeScalar(path, node, index);
      return absl::OkStatus();
  }
}

absl::Status Collector::TakeTensor(absl::string_view path, const Node& node) {
  const TensorView& view = manifest_.tensors[node.tensor];
  if (view.storage == kNoIndex || IsMetaDevice(manifest_.storages[view.storage].device))
    return Unsupported(path, "a meta tensor, which has no bytes", kUsePt);
  if (view.conjugate || view.negative)
    return Unsupported(path, "a tensor whose conjugation or negation is pending", "save it with .resolve_conj()");
  if (FindSafetensorsDType(view.dtype) == nullptr)
    return Unsupported(path, absl::StrCat("a tensor of dtype ", DTypeName(view.dtype)), kUsePt);
  std::optional<std::string> name = Name(path);
  if (!name.has_value()) return Unsupported(path, "a tensor under a key that is neither a str nor an int", kUsePt);
  if (*name == kSafetensorsMetadataKey) return Unsupported(path, "a tensor of that name", kUsePt);
  if (!IsRowMajor(view)) ++reordered_;
  if (seen_storages_[view.storage]) {
    ++shared_;
    shared_bytes_ += ElementCount(view.shape) * ElementBytes(view.dtype);
  }
  seen_storages_[view.storage] = true;
  tensors.push_back({*std::move(name), std::string(ToStd(path)), node.tensor});
  return absl::OkStatus();
}

void Collector::TakeScalar(absl::string_view path, const Node& node, NodeIndex index) {
  std::optional<std::string> text;
  if (node.kind == NodeKind::kStr) {
    if (IsUtf8(node.text, /*allow_surrogates=*/false)) text = node.text;
  } else if (node.kind == NodeKind::kBool || node.kind == NodeKind::kInt || node.kind == NodeKind::kFloat) {
    text = PythonRepr(manifest_, index, kMaxScalarBytes + 1);
  }
  std::optional<std::string> name = Name(path);
  if (text.has_value() && text->size() <= kMaxScalarBytes && name.has_value() && names_.insert(*name).second) {
    metadata.emplace_back(*std::move(name), *std::move(text));
    has_metadata = true;
    ++scalars_;
    return;
  }
  ++left_out_count_;
  if (left_out_.size() < kNamedInNotes) left_out_.emplace_back(Quoted(path, 100));
}

void Collector::TakeMetadata(const Node& root) {
  if (root.kind != NodeKind::kOrderedDict || root.children.size() % 2 == 0) return;
  const Node& attributes = manifest_.nodes[root.children.back()];
  for (size_t i = 0; i + 1 < attributes.children.size(); i += 2) {
    const Node& name = manifest_.nodes[attributes.children[i]];
    const Node& dict = manifest_.nodes[attributes.children[i + 1]];
    if (name.kind != NodeKind::kStr || name.text != kSafetensorsMetadataAttribute || dict.kind != NodeKind::kDict)
      continue;
    has_metadata = true;
    for (size_t j = 0; j + 1 < dict.children.size(); j += 2) {
      const Node& key = manifest_.nodes[dict.children[j]];
      const Node& value = manifest_.nodes[dict.children[j + 1]];
      if (key.kind == NodeKind::kStr && value.kind == NodeKind::kStr && IsUtf8(key.text, false) &&
          IsUtf8(value.text, false) && names_.insert(key.text).second) {
        metadata.emplace_back(key.text, value.text);
      }
    }
  }
}

std::vector<std::string> Collector::Notes() const {
  std::vector<std::string> notes;
  const auto count = [](int64_t n, absl::string_view one, absl::string_view many) {
    return absl::StrCat(n, " ", n == 1 ? one : many);
  };
  if (shared_ > 0) {
    notes.push_back(absl::StrCat(count(shared_, "tensor shares its storage with another and has its",
                                       "tensors share storages with others and have their"),
                                 " own copy of the bytes in the file, ", HumanBytes(shared_bytes_), " in all"));
  }
  if (reordered_ > 0)
    notes.push_back(absl::StrCat(count(reordered_, "tensor was", "tensors were"), " not contiguous and is written so"));
  if (parameters_ > 0)
    notes.push_back(absl::StrCat(count(parameters_, "Parameter is", "Parameters are"), " written as plain tensors"));
  if (scalars_ > 0)
    notes.push_back(absl::StrCat(count(scalars_, "scalar is", "scalars are"), " in the file's metadata, as text"));
  if (left_out_count_ > 0) {
    notes.push_back(absl::StrCat(count(left_out_count_, "value that is no tensor is", "values that are no tensors are"),
                                 " left out: ", absl::StrJoin(left_out_, ", "),
                                 left_out_count_ > static_cast<int64_t>(left_out_.size()) ? ", ..." : ""));
  }
  return notes;
}

class FlatStream : public SafetensorsStream {
 public:
  FlatStream(const Manifest& manifest, StorageBytes& bytes, std::string header, std::vector<TensorIndex> tensors,
             std::vector<int64_t> ends, std::vector<std::string> notes)
      : manifest_(manifest),
        bytes_(bytes),
        header_(std::move(header)),
        tensors_(std::move(tensors)),
        ends_(std::move(ends)),
        notes_(std::move(notes)) {}

  int64_t size_bytes() const override {
    return static_cast<int64_t>(header_.size()) + (ends_.empty() ? 0 : ends_.back());
  }
  int64_t position() const override { return position_; }
  const std::vector<std::string>& notes() const override { return notes_; }

  absl::Status Read(absl::Span<uint8_t> out) override {
    SCONCE_RETURN_IF_ERROR(broken_);
    SCONCE_RETURN_IF_ERROR(CheckRoom(static_cast<int64_t>(out.size())));
    while (!out.empty()) {
      const auto head = static_cast<int64_t>(header_.size());
      size_t done = 0;
      if (position_ < head) {
        done = std::min(out.size(), static_cast<size_t>(head - position_));
        std::memcpy(out.data(), header_.data() + position_, done);
      } else {
        SCONCE_ASSIGN_OR_RETURN(done, ReadTensor(position_ - head, out));
      }
      position_ += static_cast<int64_t>(done);
      out.remove_prefix(done);
    }
    return absl::OkStatus();
  }

  absl::Status Skip(int64_t n) override {
    SCONCE_RETURN_IF_ERROR(broken_);
    SCONCE_RETURN_IF_ERROR(CheckRoom(n));
    position_ += n;
    return absl::OkStatus();
  }

 private:
  absl::Status CheckRoom(int64_t n) const {
    if (n >= 0 && n <= size_bytes() - position_) return absl::OkStatus();
    return MakeError(
        Reason::OFFSET_OUT_OF_RANGE,
        absl::StrCat("byte ", position_, " + ", n, " is past the end of a file of ", size_bytes(), " bytes"));
  }

  // Bytes of the tensor that byte `at` of the data is in: as many as there are and fit.
  absl::StatusOr<size_t> ReadTensor(int64_t at, absl::Span<uint8_t> out) {
    const auto number = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), at) - ends_.begin());
    if (number != current_) {
      reader_.emplace(manifest_, manifest_.tensors[tensors_[number]], bytes_);
      current_ = number;
    }
    const size_t size = std::min(out.size(), static_cast<size_t>(ends_[number] - at));
    const int64_t start = ends_[number] - reader_->size_bytes();
    broken_ = reader_->Read(at - start, out.subspan(0, size));
    SCONCE_RETURN_IF_ERROR(broken_);
    return size;
  }

  const Manifest& manifest_;
  StorageBytes& bytes_;
  const std::string header_;
  const std::vector<TensorIndex> tensors_;  // in the order of the file
  const std::vector<int64_t> ends_;         // of each, in the data
  const std::vector<std::string> notes_;

  int64_t position_ = 0;
  size_t current_ = SIZE_MAX;  // of tensors_
  std::optional<RowMajorReader> reader_;
  absl::Status broken_;
};

// Each view of a storage gets bytes of its own. A few kilobytes that are expanded to terabytes are refused.
int64_t MaxFileBytes(const Manifest& manifest) {
  constexpr int64_t kMostTimes = 64, kFree = int64_t{1} << 30;
  int64_t bytes = 0;
  for (const Storage& storage : manifest.storages) {
    if (__builtin_add_overflow(bytes, storage.size_bytes, &bytes)) return INT64_MAX / 2;
  }
  return std::min(bytes, INT64_MAX / 4 / kMostTimes) * kMostTimes + kFree;
}

// The library's order.
bool GoesFirst(const Manifest& manifest, const Planned& a, const Planned& b) {
  const int left = FindSafetensorsDType(manifest.tensors[a.tensor].dtype)->order;
  const int right = FindSafetensorsDType(manifest.tensors[b.tensor].dtype)->order;
  return left != right ? left > right : a.name < b.name;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsStream>> SafetensorsStream::Create(const Manifest& manifest,
                                                                             StorageBytes& bytes) {
  const Node& root = manifest.nodes[manifest.root()];
  if (root.kind != NodeKind::kDict && root.kind != NodeKind::kOrderedDict) {
    return Unsupported("", absl::StrCat("a ", TypeName(root.kind), " as the root"),
                       "select a dict of tensors with a root, e.g. /model_state_dict");
  }
  Collector collector(manifest);
  collector.TakeMetadata(root);
  SCONCE_RETURN_IF_ERROR(WalkTree(manifest, manifest.root(), collector));
  SCONCE_RETURN_IF_ERROR(collector.status());
  std::vector<Planned>& planned = collector.tensors;
  std::sort(planned.begin(), planned.end(),
            [&](const Planned& a, const Planned& b) { return GoesFirst(manifest, a, b); });

  SafetensorsHeader header;
  if (collector.has_metadata) header.metadata = std::move(collector.metadata);
  std::vector<TensorIndex> tensors;
  std::vector<int64_t> ends;
  absl::flat_hash_map<absl::string_view, absl::string_view> path_of;
  int64_t at = 0;
  const int64_t most = MaxFileBytes(manifest);
  for (const Planned& one : planned) {
    const auto [other, is_new] = path_of.emplace(one.name, one.path);
    if (!is_new) {
      return Unsupported(one.path, absl::StrCat("two tensors of the name ", Quoted(one.name)),
                         absl::StrCat("the other one is at ", Quoted(other->second), ": select one with a root"));
    }
    const TensorView& view = manifest.tensors[one.tensor];
    SafetensorsEntry entry;
    entry.name = one.name;
    entry.dtype = view.dtype;
    entry.shape = view.shape;
    entry.begin = at;
    int64_t size = 0;
    if (__builtin_mul_overflow(ElementCount(view.shape), ElementBytes(view.dtype), &size) ||
        __builtin_add_overflow(at, size, &at) || at > most) {
      return Unsupported(one.path, "views of the same bytes, written out, beyond all measure", kUsePt);
    }
    if (view.dtype == DType::kFloat4E2M1FNX2 && (view.shape.empty() || view.shape.back() > INT64_MAX / 2))
      return Unsupported(one.path, "a single pair of 4-bit numbers without a dimension", kUsePt);
    entry.end = at;
    header.entries.push_back(std::move(entry));
    tensors.push_back(one.tensor);
    ends.push_back(at);
  }
  std::string text = WriteSafetensorsHeader(header);
  if (text.size() - kSafetensorsLengthBytes > kMaxSafetensorsHeaderBytes) {
    return Unsupported("", absl::StrCat("so many names: the header would have ", text.size(), " bytes"),
                       "select a part of the tree");
  }
  return std::make_unique<FlatStream>(manifest, bytes, std::move(text), std::move(tensors), std::move(ends),
                                      collector.Notes());
}

}  // namespace sconce::format
