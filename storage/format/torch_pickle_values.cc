#include "storage/format/torch_pickle_values.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/latin1.h"
#include "storage/format/numpy_dtype.h"
#include "storage/format/pickle_globals.h"

namespace sconce::format {
namespace {

constexpr size_t kCountPieceBytes = size_t{256} << 10;

absl::Status Unsupported(absl::string_view what) {
  return MakeError(Reason::FILE_UNSUPPORTED, absl::StrCat(what, "; leave it out of the selection"));
}

template <typename Names>
bool Contains(const Names& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<absl::string_view, 2> kTensorClasses = {"torch.Tensor", "torch.nn.parameter.Parameter"};
// Device types whose tensors PyTorch saves without their storages (torch/_tensor.py, _reduce_ex_internal).
constexpr std::array<absl::string_view, 3> kDevicesWithoutStorages = {"xla", "maia", "mtia"};
constexpr std::array<absl::string_view, 5> kQSchemes = {"per_tensor_affine", "per_tensor_symmetric",
                                                        "per_channel_affine", "per_channel_symmetric",
                                                        "per_channel_affine_float_qparams"};
// numpy's datetime units, and "generic" for a date without one.
constexpr std::array<absl::string_view, 14> kDateUnits = {"Y",  "M",  "W",  "D",  "h",  "m",  "s",
                                                          "ms", "us", "ns", "ps", "fs", "as", "generic"};

struct DateUnit {
  absl::string_view unit = "generic";
  int32_t count = 1;
};

// "[25s]": 25 seconds.
std::optional<DateUnit> ParseDateUnit(absl::string_view text) {
  DateUnit date;
  if (text.empty()) return date;
  text = text.substr(1, text.size() - 2);
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits != 0 && !absl::SimpleAtoi(text.substr(0, digits), &date.count)) return std::nullopt;
  date.unit = text.substr(digits);
  if (!Contains(kDateUnits, date.unit)) return std::nullopt;
  return date;
}

}  // namespace

TorchPickleValues::TorchPickleValues(const Manifest& manifest, StorageBytes& bytes, PickleWriter& out)
    : manifest_(manifest),
      bytes_(bytes),
      out_(out),
      types_(manifest),
      memo_of_storage_(manifest.storages.size(), kNoMemo),
      memo_of_bytes_(manifest.storages.size(), kNoMemo),
      names_device_(manifest.storages.size(), false) {
  for (const Node& node : manifest.nodes) {
    if (node.kind == NodeKind::kStorage) names_device_[node.integer] = true;
    if (node.kind != NodeKind::kQuantizedTensor) continue;
    const StorageIndex storage = manifest.tensors[node.tensor].storage;
    if (storage != kNoIndex) names_device_[storage] = true;
  }
}

absl::Status TorchPickleValues::Leaf(const Node& node, absl::string_view new_type) {
  switch (node.kind) {
    case NodeKind::kNone:
      out_.Op(PickleOp::kNone);
      break;
    case NodeKind::kBool:
      out_.Bool(node.integer != 0);
      break;
    case NodeKind::kInt:
      if (node.text.empty()) {
        out_.Int(node.integer);
      } else {
        out_.Long(node.text);
      }
      break;
    case NodeKind::kFloat:
      out_.Float(node.real);
      break;
    case NodeKind::kComplex:
      out_.Global("__builtin__", "complex");
      out_.Float(node.real);
      out_.Float(node.imaginary);
      out_.Tuple(2);
      out_.Op(PickleOp::kReduce);
      break;
    case NodeKind::kStr:
      out_.Str(node.text);
      break;
    case NodeKind::kBytes:
      out_.Bytes(node.text);
      break;
    case NodeKind::kByteArray:
      out_.ByteArray(node.text);
      break;
    case NodeKind::kDtype:
      out_.Global("torch", node.text);
      break;
    case NodeKind::kQScheme:
      return QScheme(node.text);
    case NodeKind::kGlobal:
      Global(node.text);
      break;
    case NodeKind::kDevice:
      Device(node.text);
      break;
    case NodeKind::kLayout:
      out_.Global("torch.serialization", "_get_layout");
      out_.Str(absl::StrCat("torch.", node.text));
      out_.Tuple(1);
      out_.Op(PickleOp::kReduce);
      break;
    case NodeKind::kTensor:
      return Tensor(manifest_.tensors[node.tensor], new_type);
    case NodeKind::kStorage:
      return BareStorage(node);
    case NodeKind::kShardedTensor:
      return Unsupported(
          "a sharded tensor, which torch.load can only make inside the process group that it is sharded over, cannot "
          "be "
          "written to a torch file");
    default:
      return Unsupported("this kind of value cannot be written to a torch file");
  }
  return absl::OkStatus();
}

void TorchPickleValues::Global(absl::string_view name) {
  const size_t dot = name.rfind('.');
  const absl::string_view module = name.substr(0, dot);
  out_.Global(module == "builtins" ? "__builtin__" : module, name.substr(dot + 1));  // as protocol 2 has it
}

void TorchPickleValues::Call(absl::string_view module, absl::string_view name, absl::string_view new_type) {
  out_.Global(module, name);
  if (!new_type.empty()) Global(new_type);
  out_.Op(PickleOp::kMark);
}

void TorchPickleValues::EndCall(absl::string_view new_type) {
  out_.Op(PickleOp::kTuple);
  if (new_type.empty()) out_.Op(PickleOp::kReduce);
}

absl::Status TorchPickleValues::CheckTensorClass(absl::string_view name) const {
  if (Contains(kTensorClasses, name)) return absl::OkStatus();
  return Unsupported(absl::StrCat("a tensor of class ", name,
                                  ", which torch.load would have to import, cannot be written to a torch file"));
}

void TorchPickleValues::EmptyOrderedDict() {
  out_.Global("collections", "OrderedDict");
  out_.Tuple(0);
  out_.Op(PickleOp::kReduce);
}

void TorchPickleValues::Hooks() {
  EmptyOrderedDict();
}

void TorchPickleValues::Device(absl::string_view device) {
  const size_t colon = device.find(':');
  int64_t ordinal = 0;
  const bool has_ordinal = colon != absl::string_view::npos && absl::SimpleAtoi(device.substr(colon + 1), &ordinal);
  out_.Global("torch", "device");
  out_.Str(device.substr(0, colon));
  if (has_ordinal) out_.Int(ordinal);
  out_.Tuple(has_ordinal ? 2 : 1);
  out_.Op(PickleOp::kReduce);
}

absl::Status TorchPickleValues::QScheme(absl::string_view scheme) {
  if (!Contains(kQSchemes, scheme)) return Unsupported("an unknown qscheme cannot be written to a torch file");
  out_.Global("torch", scheme);
  return absl::OkStatus();
}

absl::Status TorchPickleValues::Tensor(const TensorView& view, absl::string_view new_type) {
  if (IsQuantized(view.dtype)) {
    return Unsupported("a tensor of a quantized type without its scale cannot be written to a torch file");
  }
  const bool has_bits = view.conjugate || view.negative;
  if (view.storage == kNoIndex && has_bits) {
    return Unsupported("a meta tensor that is conjugated or negated cannot be written to a torch file");
  }
  if (IsMeta(view.storage) && !has_bits) {
    MetaTensor(view, new_type);
    return absl::OkStatus();
  }
  // PyTorch makes a tensor of such a device from one on the CPU.
  const std::string device = HasNoStorages(view.storage) ? manifest_.storages[view.storage].device : "";
  if (!device.empty()) {
    Call("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", new_type);
    TensorView on_cpu = view;
    on_cpu.requires_grad = false;
    StridedTensor(on_cpu, "");
    out_.Global("torch", DTypeName(view.dtype));
    out_.SharedStr(device);
    out_.Bool(view.requires_grad);
    EndCall(new_type);
    return absl::OkStatus();
  }
  StridedTensor(view, new_type);
  return absl::OkStatus();
}

bool TorchPickleValues::HasNoStorages(StorageIndex storage) const {
  if (names_device_[storage]) return false;
  const std::string& device = manifest_.storages[storage].device;
  return Contains(kDevicesWithoutStorages, absl::string_view(device).substr(0, device.find(':')));
}

void TorchPickleValues::StridedTensor(const TensorView& view, absl::string_view new_type) {
  const bool own_type = types_.TypeOf(view.storage) != view.dtype;
  Call("torch._utils", own_type ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2", new_type);
  StorageReference(view.storage);
  out_.Int(view.offset);
  DimsTuple(view.shape);
  DimsTuple(view.stride);
  out_.Bool(view.requires_grad);
  Hooks();
  if (own_type) out_.Global("torch", DTypeName(view.dtype));
  if (view.conjugate || view.negative) Metadata(view);
  EndCall(new_type);
}

void TorchPickleValues::MetaTensor(const TensorView& view, absl::string_view new_type) {
  Call("torch._utils", "_rebuild_meta_tensor_no_storage", new_type);
  out_.Global("torch", DTypeName(view.dtype));
  DimsTuple(view.shape);
  DimsTuple(view.stride);
  out_.Bool(view.requires_grad);
  EndCall(new_type);
}

void TorchPickleValues::Metadata(const TensorView& view) {
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

absl::Status TorchPickleValues::QuantizedStart(const TensorView& view, absl::string_view scheme) {
  if (scheme == "per_tensor_symmetric" || scheme == "per_channel_symmetric") {
    return Unsupported(
        "a tensor of a symmetric quantization scheme, which PyTorch has for observers only, cannot be "
        "written to a torch file");
  }
  if (IsMeta(view.storage)) return Unsupported("a quantized meta tensor cannot be written to a torch file");
  if (types_.TypeOf(view.storage) != view.dtype) {
    return Unsupported(
        "a quantized tensor whose storage is also seen as another type cannot be written to a torch file");
  }
  StorageReference(view.storage);
  out_.Int(view.offset);
  DimsTuple(view.shape);
  DimsTuple(view.stride);
  return absl::OkStatus();
}

void TorchPickleValues::DimsTuple(const Dims& dims) {
  if (PickleWriter::TupleNeedsMark(dims.size())) out_.Op(PickleOp::kMark);
  for (const int64_t extent : dims) out_.Int(extent);
  out_.Tuple(dims.size());
}

absl::Status TorchPickleValues::BareStorage(const Node& node) {
  if (!types_.FitsBare(node)) {
    return Unsupported(absl::StrCat("a ", node.text,
                                    " storage that is also of another type, or for which PyTorch has no "
                                    "class, cannot be written to a torch file"));
  }
  StorageReference(static_cast<StorageIndex>(node.integer));
  return absl::OkStatus();
}

void TorchPickleValues::StorageReference(StorageIndex index) {
  if (memo_of_storage_[index] != kNoMemo) {
    out_.Get(memo_of_storage_[index]);
    out_.Op(PickleOp::kBinPersId);
    return;
  }
  const Storage& storage = manifest_.storages[index];
  const std::optional<DType> type = types_.TypeOf(index);
  out_.Op(PickleOp::kMark);
  out_.SharedStr("storage");
  if (type.has_value()) {
    out_.Global("torch", StorageTypeName(*type));
  } else {
    out_.Global("torch.storage", "UntypedStorage");
  }
  out_.Str(absl::StrCat(storages_.size()));
  out_.SharedStr(HasNoStorages(index) ? "cpu" : storage.device);
  out_.Int(storage.size_bytes / (type.has_value() ? ElementBytes(*type) : 1));
  out_.Op(PickleOp::kTuple);
  storages_.push_back(index);
  memo_of_storage_[index] = out_.Put();
  out_.Op(PickleOp::kBinPersId);
}

// numpy.dtype(kind and size, False, True), and its state: (version, byte order, None, None, None, item size, alignment,
// flags), the last three only for what has no fixed size; for dates also their unit.
absl::Status TorchPickleValues::NumpyDtypeObject(absl::string_view text) {
  if (out_.GetNamed(text)) return absl::OkStatus();
  const std::optional<NumpyDtype> dtype = ParseNumpyDtype(text);
  if (!dtype.has_value()) return Unsupported("an unknown numpy dtype cannot be written to a torch file");
  const bool dated = dtype->kind == 'M' || dtype->kind == 'm';
  const size_t unit_at = std::min(text.find('['), text.size());
  const std::optional<DateUnit> unit = ParseDateUnit(text.substr(unit_at));
  if (!unit.has_value()) return Unsupported("a numpy date in an unknown unit cannot be written to a torch file");
  out_.Global("numpy", "dtype");
  out_.Str(text.substr(1, unit_at - 1));
  out_.Bool(false);
  out_.Bool(true);
  out_.Tuple(3);
  out_.Op(PickleOp::kReduce);
  out_.Op(PickleOp::kMark);
  out_.Int(dated ? 4 : 3);
  out_.SharedStr(text.substr(0, 1));
  for (int i = 0; i < 3; ++i) out_.Op(PickleOp::kNone);
  if (dtype->kind == 'U' || dtype->kind == 'S' || dtype->kind == 'V') {
    out_.Int(dtype->item_bytes);
    out_.Int(dtype->kind == 'U' ? 4 : 1);
    out_.Int(dtype->kind == 'U' ? 8 : 0);  // 8: it must be zeroed when it is made
  } else {
    out_.Int(-1);
    out_.Int(-1);
    out_.Int(0);
  }
  if (dated) {
    out_.Op(PickleOp::kEmptyDict);  // metadata
    out_.Op(PickleOp::kMark);
    out_.Bytes(unit->unit);
    out_.Int(unit->count);
    out_.Int(1);  // never divided
    out_.Int(1);  // events, long gone
    out_.Op(PickleOp::kTuple);
    out_.Tuple(2);
  }
  out_.Op(PickleOp::kTuple);
  out_.Op(PickleOp::kBuild);
  out_.NameAs(text);
  return absl::OkStatus();
}

void TorchPickleValues::EmptyNumpyArray() {
  // Where numpy 1 and 2 both have it; numpy 2's own name for it, numpy._core, is unknown to releases before 1.26.
  out_.Global("numpy.core.multiarray", "_reconstruct");
  if (!out_.GetNamed("arguments of _reconstruct")) {
    out_.Global("numpy", "ndarray");
    out_.Int(0);
    out_.Tuple(1);
    out_.Bytes("b");
    out_.Tuple(3);
    out_.NameAs("arguments of _reconstruct");
  }
  out_.Op(PickleOp::kReduce);
}

absl::Status TorchPickleValues::StorageAsBytes(StorageIndex index) {
  if (memo_of_bytes_[index] != kNoMemo) {
    out_.Get(memo_of_bytes_[index]);
    return absl::OkStatus();
  }
  const Storage& storage = manifest_.storages[index];
  if (IsMetaDevice(storage.device)) return Unsupported("a numpy array without bytes cannot be written to a torch file");
  if (!IsBulk(storage)) {
    out_.Bytes(storage.inline_bytes);
  } else {
    // Read once to learn how long it becomes, and once more when the pickle is streamed, so that it is never in memory.
    std::vector<uint8_t> piece(static_cast<size_t>(std::min<int64_t>(storage.size_bytes, kCountPieceBytes)));
    uint64_t utf8_bytes = 0;
    for (int64_t at = 0; at < storage.size_bytes;) {
      const auto size = static_cast<size_t>(std::min<int64_t>(storage.size_bytes - at, kCountPieceBytes));
      SCONCE_RETURN_IF_ERROR(bytes_.Read(index, at, absl::MakeSpan(piece.data(), size)));
      utf8_bytes += Latin1Utf8Bytes({piece.data(), size});
      at += static_cast<int64_t>(size);
    }
    inserts_.push_back({out_.BytesWithoutText(utf8_bytes), index, utf8_bytes});
  }
  memo_of_bytes_[index] = out_.Put();
  return absl::OkStatus();
}

}  // namespace sconce::format
