#include "storage/format/torch_values.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/status_macros.h"

namespace sconce::format {
namespace {

using Kind = PickleValue::Kind;

absl::Status Malformed(absl::string_view what) {
  return MakeError(Reason::FILE_MALFORMED, what);
}
absl::Status Unsupported(absl::string_view what) {
  return MakeError(Reason::FILE_UNSUPPORTED, what);
}

// "cpu", "cuda:0", "mps": what torch.save tags a storage with.
bool IsDeviceTag(absl::string_view tag) {
  const size_t colon = std::min(tag.find(':'), tag.size());
  const absl::string_view type = tag.substr(0, colon);
  if (type.empty() || type.size() > 32 || !absl::ascii_islower(type[0])) return false;
  for (const char c : type) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '_') return false;
  }
  if (colon == tag.size()) return true;
  const absl::string_view index = tag.substr(colon + 1);
  return !index.empty() && index.size() <= 5 &&
         std::all_of(index.begin(), index.end(), [](char c) { return absl::ascii_isdigit(c); });
}

bool IsQuantized(DType dtype) {
  return dtype >= DType::kQInt8 && dtype <= DType::kQUInt2x4;
}

// The bytes that the characters of a str are in Latin-1, which is how protocol 2 carries bytes objects.
absl::StatusOr<std::string> EncodeLatin1(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    if (c < 0x80) {
      out.push_back(text[i]);
    } else if ((c == 0xc2 || c == 0xc3) && i + 1 < text.size()) {
      out.push_back(static_cast<char>((c & 3) << 6 | (static_cast<uint8_t>(text[++i]) & 0x3f)));
    } else {
      return Malformed("a bytes object has a character above 255");
    }
  }
  return out;
}

}  // namespace

bool TorchValues::IsLeaf(PickleIndex index) const {
  const PickleValue& value = graph_[index];
  switch (value.kind) {
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kSet:
    case Kind::kDict:
      return false;
    case Kind::kCall:
      break;
    default:
      return true;
  }
  switch (value.global.tag) {
    case PickleTag::kOrderedDict:
    case PickleTag::kCounter:
    case PickleTag::kSet:
    case PickleTag::kSize:
    case PickleTag::kRebuildParameter:
    case PickleTag::kRebuildParameterWithState:
    case PickleTag::kParameter:
      return false;
    default:
      return true;
  }
}

absl::StatusOr<Node> TorchValues::Read(PickleIndex index) {
  const PickleValue& value = graph_[index];
  Node node;
  switch (value.kind) {
    case Kind::kNone:
      return node;
    case Kind::kBool:
      node.kind = NodeKind::kBool;
      node.integer = value.integer;
      return node;
    case Kind::kInt:
      node.kind = NodeKind::kInt;
      node.integer = value.integer;
      return node;
    case Kind::kLong:
      node.kind = NodeKind::kInt;
      node.text = ToStd(graph_.Text(index));
      return node;
    case Kind::kFloat:
      node.kind = NodeKind::kFloat;
      node.real = value.real;
      return node;
    case Kind::kStr:
    case Kind::kBytes:
    case Kind::kByteArray:
      node.kind = value.kind == Kind::kStr     ? NodeKind::kStr
                  : value.kind == Kind::kBytes ? NodeKind::kBytes
                                               : NodeKind::kByteArray;
      node.text = ToStd(graph_.Text(index));
      return node;
    case Kind::kGlobal:
      return ReadGlobal(index);
    case Kind::kPersistent: {
      SCONCE_ASSIGN_OR_RETURN(const StorageRef storage, ReadStorage(index));
      if (storage.is_part)
        return Unsupported("a storage that is a part of another one, as old releases of PyTorch had them");
      node.kind = NodeKind::kStorage;
      node.text = storage.type == 0 ? "untyped" : ToStd(DTypeName(static_cast<DType>(storage.type)));
      node.integer = storage.index;
      return node;
    }
    default:
      return ReadCall(index);
  }
}

absl::StatusOr<Node> TorchValues::ReadGlobal(PickleIndex index) const {
  const PickleGlobal global = graph_[index].global;
  const std::string name = PickleGlobalName(global);
  Node node;
  node.text = ToStd(absl::StripPrefix(name, "torch."));
  if (global.tag == PickleTag::kDtype) {
    node.kind = NodeKind::kDtype;
  } else if (global.tag == PickleTag::kQScheme) {
    node.kind = NodeKind::kQScheme;
  } else {
    return Unsupported(
        absl::StrCat("the class or function ", name, " itself is part of the tree; remove it before saving"));
  }
  return node;
}

absl::StatusOr<Node> TorchValues::ReadCall(PickleIndex index) {
  const PickleGlobal global = graph_[index].global;
  const absl::Span<const PickleIndex> args = graph_.Items(graph_.Args(index));
  switch (global.tag) {
    case PickleTag::kEncode:
    case PickleTag::kBytes:
      return ReadText(NodeKind::kBytes, args);
    case PickleTag::kByteArray:
      return ReadText(NodeKind::kByteArray, args);
    case PickleTag::kComplex:
      return ReadComplex(args);
    case PickleTag::kDevice:
      return ReadDevice(args);
    case PickleTag::kGetLayout:
      return ReadLayout(args);
    case PickleTag::kRebuildTensor:
    case PickleTag::kRebuildTensorV2:
    case PickleTag::kRebuildTensorV3:
    case PickleTag::kRebuildMetaTensor:
      return ReadTensor(index);
    default:
      return Unsupported(absl::StrCat(PickleGlobalNoun(global), " (", PickleGlobalName(global),
                                      ") is not stored yet; remove it or push with --opaque"));
  }
}

// bytes and bytearray as the protocols write them: from nothing, from a bytes object (which may itself be such a call),
// or from a str and "latin1".
absl::StatusOr<Node> TorchValues::ReadText(NodeKind kind, absl::Span<const PickleIndex> args) {
  Node node;
  node.kind = kind;
  if (args.size() == 1 && kind == NodeKind::kByteArray && graph_[args[0]].kind == Kind::kCall &&
      graph_[args[0]].global.tag == PickleTag::kEncode) {
    args = graph_.Items(graph_.Args(args[0]));
  }
  if (args.empty()) return node;
  const absl::string_view text = graph_[args[0]].kind == Kind::kBytes || IsStr(args[0]) ? graph_.Text(args[0]) : "";
  SCONCE_RETURN_IF_ERROR(Charge(text.size()));
  if (args.size() == 1 && graph_[args[0]].kind == Kind::kBytes) {
    node.text = ToStd(text);
    return node;
  }
  if (args.size() == 2 && IsStr(args[0]) && IsStr(args[1]) &&
      (graph_.Text(args[1]) == "latin1" || graph_.Text(args[1]) == "latin-1")) {
    SCONCE_ASSIGN_OR_RETURN(node.text, EncodeLatin1(text));
    return node;
  }
  return Malformed("a bytes object is made from something else than bytes");
}

absl::StatusOr<Node> TorchValues::ReadComplex(absl::Span<const PickleIndex> args) const {
  Node node;
  node.kind = NodeKind::kComplex;
  if (args.size() != 2) return Malformed("a complex number has no two parts");
  for (size_t i = 0; i < 2; ++i) {
    const PickleValue& part = graph_[args[i]];
    if (part.kind != Kind::kFloat && part.kind != Kind::kInt)
      return Malformed("a part of a complex number is not a number");
    (i == 0 ? node.real : node.imaginary) = part.kind == Kind::kFloat ? part.real : static_cast<double>(part.integer);
  }
  return node;
}

absl::StatusOr<Node> TorchValues::ReadDevice(absl::Span<const PickleIndex> args) const {
  Node node;
  node.kind = NodeKind::kDevice;
  if (args.empty() || args.size() > 2 || !IsStr(args[0])) return Malformed("a torch.device without a name");
  node.text = ToStd(graph_.Text(args[0]));
  if (args.size() == 2) {
    SCONCE_ASSIGN_OR_RETURN(const int64_t ordinal, ReadCount(args[1]));
    node.text += absl::StrCat(":", ordinal);
  }
  if (!IsDeviceTag(node.text)) return Malformed(absl::StrCat(Quoted(node.text), " is not a device"));
  return node;
}

absl::StatusOr<Node> TorchValues::ReadLayout(absl::Span<const PickleIndex> args) const {
  constexpr absl::string_view kLayouts[] = {"strided",    "sparse_coo", "sparse_csr", "sparse_csc",
                                            "sparse_bsr", "sparse_bsc", "_mkldnn",    "jagged"};
  Node node;
  node.kind = NodeKind::kLayout;
  if (args.size() != 1 || !IsStr(args[0])) return Malformed("a torch.layout without a name");
  absl::string_view name = graph_.Text(args[0]);
  absl::ConsumePrefix(&name, "torch.");
  if (std::find(std::begin(kLayouts), std::end(kLayouts), name) == std::end(kLayouts)) {
    return Malformed(absl::StrCat(Quoted(name), " is not a layout"));
  }
  node.text = ToStd(name);
  return node;
}

absl::StatusOr<Node> TorchValues::ReadTensor(PickleIndex call) {
  SCONCE_ASSIGN_OR_RETURN(TensorView view, ReadView(graph_[call].global, graph_.Items(graph_.Args(call))));
  SCONCE_RETURN_IF_ERROR(CheckView(view));
  Node node;
  node.kind = NodeKind::kTensor;
  node.tensor = static_cast<TensorIndex>(tensors.size());
  tensors.push_back(std::move(view));
  return node;
}

// The arguments of PyTorch's rebuild functions:
//   _rebuild_tensor(storage, offset, size, stride)
//   _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, [metadata])
//   _rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, [metadata])
//   _rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)
absl::StatusOr<TensorView> TorchValues::ReadView(PickleGlobal function, absl::Span<const PickleIndex> args) {
  TensorView view;
  if (function.tag == PickleTag::kRebuildMetaTensor) {
    if (args.size() != 4) return Malformed("a meta tensor has not four arguments");
    SCONCE_ASSIGN_OR_RETURN(view.dtype, ReadDType(args[0]));
    SCONCE_ASSIGN_OR_RETURN(view.shape, ReadDims(args[1]));
    SCONCE_ASSIGN_OR_RETURN(view.stride, ReadDims(args[2]));
    SCONCE_ASSIGN_OR_RETURN(view.requires_grad, ReadBool(args[3]));
    return view;
  }
  const bool has_dtype = function.tag == PickleTag::kRebuildTensorV3;
  const size_t plain = function.tag == PickleTag::kRebuildTensor ? 4 : has_dtype ? 7 : 6;
  if (args.size() != plain && (plain == 4 || args.size() != plain + 1))
    return Malformed("a tensor has too few or too many arguments");
  if (graph_[args[0]].kind != Kind::kPersistent) return Malformed("a tensor without a storage");
  SCONCE_ASSIGN_OR_RETURN(const StorageRef storage, ReadStorage(args[0]));
  view.storage = storage.index;
  SCONCE_ASSIGN_OR_RETURN(view.offset, ReadCount(args[1]));
  SCONCE_ASSIGN_OR_RETURN(view.shape, ReadDims(args[2]));
  SCONCE_ASSIGN_OR_RETURN(view.stride, ReadDims(args[3]));
  view.dtype = storage.type == 0 ? DType::kUInt8 : static_cast<DType>(storage.type);
  if (plain > 4) {
    SCONCE_ASSIGN_OR_RETURN(view.requires_grad, ReadBool(args[4]));
    SCONCE_RETURN_IF_ERROR(CheckHooks(args[5]));
  }
  if (has_dtype) {
    SCONCE_ASSIGN_OR_RETURN(view.dtype, ReadDType(args[6]));
  }
  if (args.size() > plain) SCONCE_RETURN_IF_ERROR(ReadMetadata(args[plain], view));
  if (storage.is_part) SCONCE_RETURN_IF_ERROR(MoveToPart(storage, view));
  return view;
}

absl::Status TorchValues::CheckView(const TensorView& view) const {
  if (IsQuantized(view.dtype)) return Malformed("a tensor of a quantized type without its scale");
  if (view.shape.size() != view.stride.size()) return Malformed("a tensor has not as many strides as extents");
  const int64_t end = ViewEndBytes(view);
  if (end < 0) return Malformed("a tensor's size overflows");
  if (view.storage != kNoIndex && end > storages[view.storage].size_bytes) {
    return Malformed(absl::StrCat("a tensor reaches to byte ", end, " of a storage of ",
                                  storages[view.storage].size_bytes, " bytes"));
  }
  return absl::OkStatus();
}

// The bits of lazily conjugated and negated tensors.
absl::Status TorchValues::ReadMetadata(PickleIndex metadata, TensorView& view) const {
  if (graph_[metadata].kind == Kind::kNone) return absl::OkStatus();
  if (graph_[metadata].kind != Kind::kDict) return Malformed("a tensor's metadata is not a dict");
  const absl::Span<const PickleIndex> items = graph_.Items(metadata);
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const absl::string_view key = IsStr(items[i]) ? graph_.Text(items[i]) : "";
    if (key != "conj" && key != "neg")
      return Unsupported(absl::StrCat("a tensor with metadata ", Quoted(key),
                                      ", which only its device understands; move it to the CPU before saving"));
    SCONCE_ASSIGN_OR_RETURN((key == "conj" ? view.conjugate : view.negative), ReadBool(items[i + 1]));
  }
  return absl::OkStatus();
}

// A persistent id is ('storage', class, key, location, number of elements), and in the legacy container a sixth: None,
// or (key, offset, number of elements) of the part of that storage which is meant.
absl::StatusOr<TorchValues::StorageRef> TorchValues::ReadStorage(PickleIndex persistent) {
  const PickleIndex id = graph_.Args(persistent);
  const absl::Span<const PickleIndex> parts =
      graph_[id].kind == Kind::kTuple ? graph_.Items(id) : absl::Span<const PickleIndex>();
  if (parts.size() < 5 || parts.size() > 6 || !IsStr(parts[0]) || graph_.Text(parts[0]) != "storage" ||
      graph_[parts[1]].kind != Kind::kGlobal || graph_[parts[1]].global.tag != PickleTag::kStorageType ||
      !IsStr(parts[2]) || !IsStr(parts[3])) {
    return Malformed("a persistent id that is not a storage's");
  }
  const uint8_t type = graph_[parts[1]].global.number;
  const absl::string_view key = graph_.Text(parts[2]);
  const absl::string_view device = graph_.Text(parts[3]);
  SCONCE_ASSIGN_OR_RETURN(const int64_t elements, ReadCount(parts[4]));
  int64_t size_bytes = 0;
  if (__builtin_mul_overflow(elements, type == 0 ? 1 : ElementBytes(static_cast<DType>(type)), &size_bytes)) {
    return Malformed(absl::StrCat("storage ", Quoted(key), " has a size that overflows"));
  }
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) {
    SCONCE_ASSIGN_OR_RETURN(const StorageIndex index, AddStorage(key, device, size_bytes));
    StorageRef added;
    added.index = index;
    added.type = type;
    by_key_.emplace(key, added);
    if (parts.size() == 6) SCONCE_RETURN_IF_ERROR(ReadPart(parts[5], added));
    return added;
  }
  const StorageRef& known = it->second;
  const auto dtype = [](uint8_t number) {
    return number == 0 ? static_cast<uint8_t>(DType::kUInt8) : number;
  };  // as torch.save takes it
  if (dtype(known.type) != dtype(type)) {
    return Malformed(
        absl::StrCat("storage ", Quoted(key),
                     ": cannot save multiple tensors or storages that view the same data as different types"));
  }
  if (storages[known.index].size_bytes != size_bytes || storages[known.index].device != ToStd(device)) {
    return Malformed(absl::StrCat("storage ", Quoted(key), " is named twice with different sizes or devices"));
  }
  StorageRef again;
  again.index = known.index;
  again.type = type;
  if (parts.size() == 6) SCONCE_RETURN_IF_ERROR(ReadPart(parts[5], again));
  return again;
}

absl::Status TorchValues::ReadPart(PickleIndex metadata, StorageRef& storage) const {
  if (graph_[metadata].kind == Kind::kNone) return absl::OkStatus();
  const absl::Span<const PickleIndex> parts =
      graph_[metadata].kind == Kind::kTuple ? graph_.Items(metadata) : absl::Span<const PickleIndex>();
  if (parts.size() != 3) return Malformed("a part of a storage is not given by key, offset and size");
  storage.is_part = true;
  SCONCE_ASSIGN_OR_RETURN(storage.offset, ReadCount(parts[1]));
  SCONCE_ASSIGN_OR_RETURN(storage.elements, ReadCount(parts[2]));
  return absl::OkStatus();
}

// A view of a part of a storage is a view of the storage.
absl::Status TorchValues::MoveToPart(const StorageRef& storage, TensorView& view) const {
  const DType type = storage.type == 0 ? DType::kUInt8 : static_cast<DType>(storage.type);
  const int64_t end = ViewEndBytes(view);
  if (view.dtype != type || end < 0 || end / ElementBytes(type) > storage.elements ||
      __builtin_add_overflow(view.offset, storage.offset, &view.offset)) {
    return Malformed("a tensor reaches past the part of a storage that it is a view of");
  }
  return absl::OkStatus();
}

absl::StatusOr<StorageIndex> TorchValues::AddStorage(absl::string_view key, absl::string_view device,
                                                     int64_t size_bytes) {
  if (!IsDeviceTag(device))
    return Malformed(absl::StrCat("storage ", Quoted(key), " is tagged ", Quoted(device), ", which is not a device"));
  Storage storage;
  storage.size_bytes = size_bytes;
  storage.device = ToStd(device);
  RecordSource record;
  if (!IsMetaDevice(device)) {
    SCONCE_ASSIGN_OR_RETURN(record, lookup_(key));
    if (record.size_bytes != size_bytes) {
      return Malformed(absl::StrCat("storage ", Quoted(key), " should have ", size_bytes, " bytes, its record has ",
                                    record.size_bytes));
    }
  }
  storages.push_back(std::move(storage));
  records.push_back(record);
  return static_cast<StorageIndex>(storages.size() - 1);
}

absl::Status TorchValues::CheckHooks(PickleIndex hooks) const {
  const PickleValue& value = graph_[hooks];
  const bool is_dict =
      value.kind == Kind::kDict || (value.kind == Kind::kCall && value.global.tag == PickleTag::kOrderedDict);
  if (!is_dict) return Malformed("a tensor's backward hooks are not a dict");
  if (!graph_.Items(hooks).empty())
    return Unsupported("a tensor with backward hooks, which are code; remove them before saving");
  return absl::OkStatus();
}

absl::StatusOr<bool> TorchValues::ReadBool(PickleIndex value) const {
  if (graph_[value].kind != Kind::kBool) return Malformed("True or False is missing");
  return graph_[value].integer != 0;
}

absl::Status TorchValues::Charge(size_t n) {
  charged_ += n;
  if (charged_ <= graph_.pickle_bytes()) return absl::OkStatus();
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   "the pickle names the same data over and over, so that its tree is larger than the pickle");
}

absl::StatusOr<int64_t> TorchValues::ReadCount(PickleIndex value) const {
  if (graph_[value].kind != Kind::kInt) return Malformed("an int is missing, or is beyond 64 bits");
  if (graph_[value].integer < 0) return Malformed(absl::StrCat(graph_[value].integer, " where only 0 or more can be"));
  return graph_[value].integer;
}

absl::StatusOr<DType> TorchValues::ReadDType(PickleIndex value) const {
  if (graph_[value].kind != Kind::kGlobal || graph_[value].global.tag != PickleTag::kDtype)
    return Malformed("a tensor's dtype is missing");
  return static_cast<DType>(graph_[value].global.number);
}

absl::StatusOr<Dims> TorchValues::ReadDims(PickleIndex value) {
  PickleIndex tuple = value;
  if (graph_[value].kind == Kind::kCall && graph_[value].global.tag == PickleTag::kSize &&
      graph_.Items(graph_.Args(value)).size() == 1) {
    tuple = graph_.Items(graph_.Args(value))[0];
  }
  if (graph_[tuple].kind != Kind::kTuple) return Malformed("a tensor's size or stride is not a tuple");
  const absl::Span<const PickleIndex> items = graph_.Items(tuple);
  SCONCE_RETURN_IF_ERROR(Charge(items.size()));
  Dims dims;
  for (const PickleIndex item : items) {
    SCONCE_ASSIGN_OR_RETURN(const int64_t extent, ReadCount(item));
    dims.push_back(extent);
  }
  return dims;
}

}  // namespace sconce::format
