#include "storage/format/torch_pickle.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/path.h"
#include "storage/format/pickle_globals.h"
#include "storage/format/pickle_writer.h"

namespace sconce::format {
namespace {

constexpr size_t kBatch = 1000;  // elements between a mark and the opcode that gathers them, as Python's pickler has it
constexpr uint8_t kUnknownType = 0xff;  // of a storage: nothing names it yet
constexpr uint8_t kUntyped = 0;         // else the number of a DType
constexpr PickleWriter::Memo kNoMemo = UINT32_MAX;

// Writes the nodes depth first with a stack of its own: a container is begun, its children are written, it is ended.
class TreeWriter {
 public:
  explicit TreeWriter(const Manifest& manifest)
      : manifest_(manifest),
        memo_of_node_(manifest.nodes.size(), kNoMemo),
        is_shared_(manifest.nodes.size(), false),
        type_of_storage_(manifest.storages.size(), kUnknownType),
        memo_of_storage_(manifest.storages.size(), kNoMemo) {}

  absl::StatusOr<TorchPickle> Write() {
    FindShared();
    ChooseStorageTypes();
    SCONCE_RETURN_IF_ERROR(Begin(manifest_.root()));
    while (!frames_.empty()) {
      Frame& top = frames_.back();
      const Node& node = manifest_.nodes[top.node];
      if (top.next == node.children.size()) {
        End(top);
        const NodeIndex ended = top.node;
        frames_.pop_back();
        if (!PutsEarly(node.kind)) PutIfShared(ended);
        continue;
      }
      BeforeChild(node, top.next);
      const NodeIndex child = node.children[top.next++];
      if (memo_of_node_[child] != kNoMemo) {
        out_.Get(memo_of_node_[child]);
      } else {
        SCONCE_RETURN_IF_ERROR(Begin(child));  // may move `top`
      }
    }
    return TorchPickle{out_.Finish(), std::move(storages_)};
  }

 private:
  struct Frame {
    NodeIndex node;
    size_t next = 0;
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

  // The type torch.save would give each storage. One that is seen as two types, or has no whole number of elements, or
  // a type without a storage class, is written as bytes, and its tensors carry their dtype.
  void ChooseStorageTypes() {
    const auto use = [this](StorageIndex storage, uint8_t type) {
      if (storage == kNoIndex) return;
      uint8_t& chosen = type_of_storage_[storage];
      const auto dtype = static_cast<DType>(type);
      const bool fits = type != kUntyped && !StorageTypeName(dtype).empty() &&
                        manifest_.storages[storage].size_bytes % ElementBytes(dtype) == 0;
      chosen = fits && (chosen == kUnknownType || chosen == type) ? type : kUntyped;
    };
    for (const TensorView& view : manifest_.tensors) use(view.storage, static_cast<uint8_t>(view.dtype));
    for (const Node& node : manifest_.nodes) {
      if (node.kind == NodeKind::kStorage) use(static_cast<StorageIndex>(node.integer), BareStorageType(node));
    }
  }
  static uint8_t BareStorageType(const Node& node) {
    const std::optional<DType> dtype = node.text == "untyped" ? std::nullopt : ParseDType(node.text);
    return dtype.has_value() ? static_cast<uint8_t>(*dtype) : kUntyped;
  }

  void PutIfShared(NodeIndex node) {
    if (is_shared_[node]) memo_of_node_[node] = out_.Put();
  }
  // Python memoizes what can contain itself before it is filled.
  static bool PutsEarly(NodeKind kind) {
    return kind == NodeKind::kList || kind == NodeKind::kDict || kind == NodeKind::kOrderedDict;
  }

  absl::Status Begin(NodeIndex index) {
    const Node& node = manifest_.nodes[index];
    switch (node.kind) {
      case NodeKind::kList:
        out_.Op(PickleOp::kEmptyList);
        break;
      case NodeKind::kDict:
        out_.Op(PickleOp::kEmptyDict);
        break;
      case NodeKind::kOrderedDict:
        EmptyOrderedDict();
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
      case NodeKind::kParameter:
        out_.Global("torch._utils", node.children.size() > 1 ? "_rebuild_parameter_with_state" : "_rebuild_parameter");
        out_.Op(PickleOp::kMark);
        break;
      default:
        SCONCE_RETURN_IF_ERROR(Leaf(index));
        PutIfShared(index);
        return absl::OkStatus();
    }
    frames_.push_back({index});
    if (PutsEarly(node.kind)) PutIfShared(index);
    return absl::OkStatus();
  }

  // Marks and gathers batches of elements, and sets what stands between two children.
  void BeforeChild(const Node& node, size_t next) {
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
      case NodeKind::kParameter:
        if (next == 1) ParameterRest(node);
        break;
      default:
        break;
    }
  }

  void End(const Frame& frame) {
    const Node& node = manifest_.nodes[frame.node];
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
      default:  // kParameter
        if (count == 1) ParameterRest(node);
        out_.Op(PickleOp::kTuple);
        out_.Op(PickleOp::kReduce);
    }
  }

  void EmptyOrderedDict() {
    out_.Global("collections", "OrderedDict");
    out_.Tuple(0);
    out_.Op(PickleOp::kReduce);
  }
  void ParameterRest(const Node& node) {
    out_.Bool(node.integer != 0);
    EmptyOrderedDict();  // backward hooks
  }

  absl::Status Leaf(NodeIndex index) {
    const Node& node = manifest_.nodes[index];
    switch (node.kind) {
      case NodeKind::kNone:
        out_.Op(PickleOp::kNone);
        return absl::OkStatus();
      case NodeKind::kBool:
        out_.Bool(node.integer != 0);
        return absl::OkStatus();
      case NodeKind::kInt:
        if (node.text.empty()) {
          out_.Int(node.integer);
        } else {
          out_.Long(node.text);
        }
        return absl::OkStatus();
      case NodeKind::kFloat:
        out_.Float(node.real);
        return absl::OkStatus();
      case NodeKind::kComplex:
        out_.Global("__builtin__", "complex");
        out_.Float(node.real);
        out_.Float(node.imaginary);
        out_.Tuple(2);
        out_.Op(PickleOp::kReduce);
        return absl::OkStatus();
      case NodeKind::kStr:
        out_.Str(node.text);
        return absl::OkStatus();
      case NodeKind::kBytes:
        out_.Bytes(node.text);
        return absl::OkStatus();
      case NodeKind::kByteArray:
        out_.ByteArray(node.text);
        return absl::OkStatus();
      case NodeKind::kDtype:
      case NodeKind::kQScheme:
        out_.Global("torch", node.text);
        return absl::OkStatus();
      case NodeKind::kDevice:
        Device(node.text);
        return absl::OkStatus();
      case NodeKind::kLayout:
        out_.Global("torch.serialization", "_get_layout");
        out_.Str(absl::StrCat("torch.", node.text));
        out_.Tuple(1);
        out_.Op(PickleOp::kReduce);
        return absl::OkStatus();
      case NodeKind::kTensor:
        return Tensor(index, manifest_.tensors[node.tensor]);
      case NodeKind::kStorage:
        return BareStorage(index);
      default:
        return Unsupported(index, "this kind of value cannot be written to a torch file yet");
    }
  }

  void Device(absl::string_view device) {
    const size_t colon = device.find(':');
    int64_t ordinal = 0;
    const bool has_ordinal = colon != absl::string_view::npos && absl::SimpleAtoi(device.substr(colon + 1), &ordinal);
    out_.Global("torch", "device");
    out_.Str(device.substr(0, colon));
    if (has_ordinal) out_.Int(ordinal);
    out_.Tuple(has_ordinal ? 2 : 1);
    out_.Op(PickleOp::kReduce);
  }

  absl::Status Tensor(NodeIndex index, const TensorView& view) {
    if (view.dtype >= DType::kQInt8 && view.dtype <= DType::kQUInt2x4) {
      return Unsupported(index, "a tensor of a quantized type without its scale cannot be written to a torch file");
    }
    if (view.storage == kNoIndex || IsMetaDevice(manifest_.storages[view.storage].device)) {
      if (view.conjugate || view.negative)
        return Unsupported(index, "a meta tensor that is conjugated or negated cannot be written to a torch file");
      out_.Global("torch._utils", "_rebuild_meta_tensor_no_storage");
      out_.Op(PickleOp::kMark);
      out_.Global("torch", DTypeName(view.dtype));
      DimsTuple(view.shape);
      DimsTuple(view.stride);
      out_.Bool(view.requires_grad);
      out_.Op(PickleOp::kTuple);
      out_.Op(PickleOp::kReduce);
      return absl::OkStatus();
    }
    const bool untyped = type_of_storage_[view.storage] == kUntyped;
    out_.Global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    out_.Op(PickleOp::kMark);
    StorageReference(view.storage);
    out_.Int(view.offset);
    DimsTuple(view.shape);
    DimsTuple(view.stride);
    out_.Bool(view.requires_grad);
    EmptyOrderedDict();  // backward hooks
    if (untyped) out_.Global("torch", DTypeName(view.dtype));
    if (view.conjugate || view.negative) Metadata(view);
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kReduce);
    return absl::OkStatus();
  }

  void Metadata(const TensorView& view) {
    out_.Op(PickleOp::kEmptyDict);
    out_.Op(PickleOp::kMark);
    if (view.conjugate) {
      out_.SharedStr("conj");
      out_.Bool(true);
    }
    if (view.negative) {
      out_.SharedStr("neg");
      out_.Bool(true);
    }
    out_.Op(PickleOp::kSetItems);
  }

  void DimsTuple(const Dims& dims) {
    if (PickleWriter::TupleNeedsMark(dims.size())) out_.Op(PickleOp::kMark);
    for (const int64_t extent : dims) out_.Int(extent);
    out_.Tuple(dims.size());
  }

  absl::Status BareStorage(NodeIndex index) {
    const Node& node = manifest_.nodes[index];
    const auto storage = static_cast<StorageIndex>(node.integer);
    if (BareStorageType(node) != type_of_storage_[storage]) {
      return Unsupported(index, "a storage that tensors see as another type cannot be written to a torch file");
    }
    StorageReference(storage);
    return absl::OkStatus();
  }

  void StorageReference(StorageIndex index) {
    if (memo_of_storage_[index] != kNoMemo) {
      out_.Get(memo_of_storage_[index]);
      out_.Op(PickleOp::kBinPersId);
      return;
    }
    const Storage& storage = manifest_.storages[index];
    const uint8_t type = type_of_storage_[index];
    out_.Op(PickleOp::kMark);
    out_.SharedStr("storage");
    if (type == kUntyped) {
      out_.Global("torch.storage", "UntypedStorage");
    } else {
      out_.Global("torch", StorageTypeName(static_cast<DType>(type)));
    }
    out_.Str(absl::StrCat(storages_.size()));
    out_.SharedStr(storage.device);
    out_.Int(storage.size_bytes / (type == kUntyped ? 1 : ElementBytes(static_cast<DType>(type))));
    out_.Op(PickleOp::kTuple);
    storages_.push_back(index);
    memo_of_storage_[index] = out_.Put();
    out_.Op(PickleOp::kBinPersId);
  }

  absl::Status Unsupported(NodeIndex index, absl::string_view what) const {
    std::string place = "the top";
    const absl::Status walked = ForEachPath(manifest_, [&](absl::string_view path, NodeIndex node) {
      if (node != index) return true;
      if (!path.empty()) place = std::string(path);
      return false;
    });
    return MakeError(Reason::FILE_UNSUPPORTED, absl::StrCat("at ", walked.ok() ? place : absl::StrCat("node ", index),
                                                            ": ", what, "; leave it out of the selection"));
  }

  const Manifest& manifest_;
  PickleWriter out_;
  std::vector<StorageIndex> storages_;
  std::vector<Frame> frames_;
  std::vector<PickleWriter::Memo> memo_of_node_;
  std::vector<bool> is_shared_;
  std::vector<uint8_t> type_of_storage_;
  std::vector<PickleWriter::Memo> memo_of_storage_;
};

}  // namespace

absl::StatusOr<TorchPickle> WriteTorchPickle(const Manifest& manifest) {
  return TreeWriter(manifest).Write();
}

}  // namespace sconce::format
