#include "storage/format/torch_tensors.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sconce::format {

using Kind = PickleValue::Kind;

bool TorchTensors::Makes(PickleTag tag) {
  switch (tag) {
    case PickleTag::kRebuildTensor:
    case PickleTag::kRebuildTensorV2:
    case PickleTag::kRebuildTensorV3:
    case PickleTag::kRebuildMetaTensor:
    case PickleTag::kRebuildFromCpu:
    case PickleTag::kTensorClass:
    case PickleTag::kOldTensorClass:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<TensorIndex> TorchTensors::Read(PickleTag function, absl::Span<const PickleIndex> args,
                                               PickleIndex state) {
  const bool is_class = function == PickleTag::kTensorClass || function == PickleTag::kOldTensorClass;
  SCONCE_ASSIGN_OR_RETURN(TensorView view, is_class ? ReadOldTensor(args, state) : ReadView(function, args));
  if (IsQuantized(view.dtype)) return MalformedValue("a tensor of a quantized type without its scale");
  return Add(std::move(view));
}

absl::StatusOr<TensorIndex> TorchTensors::ReadQuantized(absl::Span<const PickleIndex> args) {
  if (args.size() != 7) return MalformedValue("a quantized tensor has too few or too many arguments");
  SCONCE_ASSIGN_OR_RETURN(TensorView view, ReadPlace(args));
  if (!IsQuantized(view.dtype)) return MalformedValue("a quantized tensor of a type that is not");
  SCONCE_ASSIGN_OR_RETURN(view.requires_grad, values_.ReadBool(args[5]));
  SCONCE_RETURN_IF_ERROR(values_.CheckHooks(args[6]));
  return Add(std::move(view));
}

absl::StatusOr<Node> TorchTensors::ReadBareStorage(PickleIndex persistent) {
  SCONCE_ASSIGN_OR_RETURN(const StorageRef storage, ReadStorage(persistent));
  if (storage.is_part)
    return UnsupportedValue("a storage that is a part of another one, as old releases of PyTorch had them");
  Node node;
  node.kind = NodeKind::kStorage;
  node.text = storage.type == 0 ? "untyped" : ToStd(DTypeName(static_cast<DType>(storage.type)));
  node.integer = storage.index;
  return node;
}

// The arguments of PyTorch's rebuild functions:
//   _rebuild_tensor(storage, offset, size, stride)
//   _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, [metadata])
//   _rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, [metadata])
absl::StatusOr<TensorView> TorchTensors::ReadView(PickleTag function, absl::Span<const PickleIndex> args) {
  if (function == PickleTag::kRebuildMetaTensor) return ReadMeta(args);
  if (function == PickleTag::kRebuildFromCpu) return ReadFromCpu(args);
  const bool has_dtype = function == PickleTag::kRebuildTensorV3;
  const size_t plain = function == PickleTag::kRebuildTensor ? 4 : has_dtype ? 7 : 6;
  if (args.size() != plain && (plain == 4 || args.size() != plain + 1))
    return MalformedValue("a tensor has too few or too many arguments");
  SCONCE_ASSIGN_OR_RETURN(TensorView view, ReadPlace(args));
  if (plain > 4) {
    SCONCE_ASSIGN_OR_RETURN(view.requires_grad, values_.ReadBool(args[4]));
    SCONCE_RETURN_IF_ERROR(values_.CheckHooks(args[5]));
  }
  if (has_dtype) {
    SCONCE_ASSIGN_OR_RETURN(view.dtype, values_.ReadDType(args[6]));
  }
  if (args.size() > plain) SCONCE_RETURN_IF_ERROR(ReadMetadata(args[plain], view));
  return view;
}

// _rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)
absl::StatusOr<TensorView> TorchTensors::ReadMeta(absl::Span<const PickleIndex> args) {
  if (args.size() != 4) return MalformedValue("a meta tensor has not four arguments");
  TensorView view;
  SCONCE_ASSIGN_OR_RETURN(view.dtype, values_.ReadDType(args[0]));
  SCONCE_ASSIGN_OR_RETURN(view.shape, values_.ReadDims(args[1]));
  SCONCE_ASSIGN_OR_RETURN(view.stride, values_.ReadDims(args[2]));
  SCONCE_ASSIGN_OR_RETURN(view.requires_grad, values_.ReadBool(args[3]));
  return view;
}

// torch.FloatTensor(), to which BUILD gives the four arguments of _rebuild_tensor: PyTorch before 0.2.
absl::StatusOr<TensorView> TorchTensors::ReadOldTensor(absl::Span<const PickleIndex> args, PickleIndex state) {
  if (!args.empty() || state == PickleGraph::kAbsent || graph_[state].kind != Kind::kTuple ||
      graph_.Items(state).size() != 4) {
    return MalformedValue("a tensor is made in a way no PyTorch saves it");
  }
  return ReadPlace(graph_.Items(state));
}

// _rebuild_device_tensor_from_cpu_tensor(data, dtype, device, requires_grad): how PyTorch saves a tensor of a device
// that has no storages. `data` is its copy on the CPU, made only for this.
absl::StatusOr<TensorView> TorchTensors::ReadFromCpu(absl::Span<const PickleIndex> args) {
  if (args.size() != 4 || graph_[args[0]].kind != Kind::kCall || !values_.IsStr(args[2]))
    return MalformedValue("a tensor of a device without storages is made from something unexpected");
  const PickleTag function = graph_[args[0]].global.tag;
  if (function != PickleTag::kRebuildTensorV2 && function != PickleTag::kRebuildTensorV3)
    return MalformedValue("a tensor of a device without storages is made from something unexpected");
  if (!IsDeviceTag(graph_.Text(args[2])))
    return MalformedValue(absl::StrCat(Quoted(graph_.Text(args[2])), " is not a device"));
  moved_to_ = graph_.Text(args[2]);
  absl::StatusOr<TensorView> view = ReadView(function, graph_.Items(graph_.Args(args[0])));
  moved_to_ = "";
  SCONCE_RETURN_IF_ERROR(view.status());
  SCONCE_ASSIGN_OR_RETURN(const DType dtype, values_.ReadDType(args[1]));
  if (dtype != view->dtype)
    return UnsupportedValue("a tensor of a device without storages in another dtype than its data has");
  SCONCE_ASSIGN_OR_RETURN(view->requires_grad, values_.ReadBool(args[3]));
  return view;
}

absl::StatusOr<TensorView> TorchTensors::ReadPlace(absl::Span<const PickleIndex> args) {
  if (graph_[args[0]].kind != Kind::kPersistent) return MalformedValue("a tensor without a storage");
  SCONCE_ASSIGN_OR_RETURN(const StorageRef storage, ReadStorage(args[0]));
  TensorView view;
  view.storage = storage.index;
  SCONCE_ASSIGN_OR_RETURN(view.offset, values_.ReadCount(args[1]));
  SCONCE_ASSIGN_OR_RETURN(view.shape, values_.ReadDims(args[2]));
  SCONCE_ASSIGN_OR_RETURN(view.stride, values_.ReadDims(args[3]));
  view.dtype = storage.type == 0 ? DType::kUInt8 : static_cast<DType>(storage.type);
  if (storage.is_part) SCONCE_RETURN_IF_ERROR(MoveToPart(storage, view));
  return view;
}

absl::StatusOr<TensorIndex> TorchTensors::Add(TensorView view) {
  if (view.shape.size() != view.stride.size()) return MalformedValue("a tensor has not as many strides as extents");
  if (view.shape.size() > kMaxRank) return UnsupportedValue("a tensor of more than 64 dimensions");
  if (view.conjugate && !IsComplex(view.dtype)) return MalformedValue("a conjugate tensor that is not complex");
  const int64_t end = ViewEndBytes(view);
  if (end < 0) return MalformedValue("a tensor's size overflows");
  if (view.storage != kNoIndex && end > file_.manifest.storages[view.storage].size_bytes) {
    return MalformedValue(absl::StrCat("a tensor reaches to byte ", end, " of a storage of ",
                                       file_.manifest.storages[view.storage].size_bytes, " bytes"));
  }
  file_.manifest.tensors.push_back(std::move(view));
  return static_cast<TensorIndex>(file_.manifest.tensors.size() - 1);
}

// The bits of lazily conjugated and negated tensors.
absl::Status TorchTensors::ReadMetadata(PickleIndex metadata, TensorView& view) const {
  if (graph_[metadata].kind == Kind::kNone) return absl::OkStatus();
  if (graph_[metadata].kind != Kind::kDict) return MalformedValue("a tensor's metadata is not a dict");
  const absl::Span<const PickleIndex> items = graph_.Items(metadata);
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const absl::string_view key = values_.IsStr(items[i]) ? graph_.Text(items[i]) : "";
    if (key != "conj" && key != "neg")
      return UnsupportedValue(absl::StrCat("a tensor with metadata ", Quoted(key),
                                           ", which only its device understands; move it to the CPU before saving"));
    SCONCE_ASSIGN_OR_RETURN((key == "conj" ? view.conjugate : view.negative), values_.ReadBool(items[i + 1]));
  }
  return absl::OkStatus();
}

// A persistent id is ('storage', class, key, location, number of elements), and in the legacy container a sixth: None,
// or (key, offset, number of elements) of the part of that storage which is meant.
absl::StatusOr<TorchTensors::StorageRef> TorchTensors::ReadStorage(PickleIndex persistent) {
  const PickleIndex id = graph_.Args(persistent);
  const absl::Span<const PickleIndex> parts =
      graph_[id].kind == Kind::kTuple ? graph_.Items(id) : absl::Span<const PickleIndex>();
  if (parts.size() < 5 || parts.size() > 6 || !values_.IsStr(parts[0]) || graph_.Text(parts[0]) != "storage" ||
      graph_[parts[1]].kind != Kind::kGlobal || graph_[parts[1]].global.tag != PickleTag::kStorageType ||
      !values_.IsStr(parts[2]) || !values_.IsStr(parts[3])) {
    return MalformedValue("a persistent id that is not a storage's");
  }
  const uint8_t type = graph_[parts[1]].global.number;
  const absl::string_view key = graph_.Text(parts[2]);
  const absl::string_view device = moved_to_.empty() ? graph_.Text(parts[3]) : moved_to_;
  SCONCE_ASSIGN_OR_RETURN(const int64_t elements, values_.ReadCount(parts[4]));
  int64_t size_bytes = 0;
  if (__builtin_mul_overflow(elements, type == 0 ? 1 : ElementBytes(static_cast<DType>(type)), &size_bytes)) {
    return MalformedValue(absl::StrCat("storage ", Quoted(key), " has a size that overflows"));
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
    return MalformedValue(
        absl::StrCat("storage ", Quoted(key),
                     ": cannot save multiple tensors or storages that view the same data as different types"));
  }
  if (file_.manifest.storages[known.index].size_bytes != size_bytes ||
      file_.manifest.storages[known.index].device != ToStd(device)) {
    return MalformedValue(absl::StrCat("storage ", Quoted(key), " is named twice with different sizes or devices"));
  }
  StorageRef again;
  again.index = known.index;
  again.type = type;
  if (parts.size() == 6) SCONCE_RETURN_IF_ERROR(ReadPart(parts[5], again));
  return again;
}

absl::Status TorchTensors::ReadPart(PickleIndex metadata, StorageRef& storage) const {
  if (graph_[metadata].kind == Kind::kNone) return absl::OkStatus();
  const absl::Span<const PickleIndex> parts =
      graph_[metadata].kind == Kind::kTuple ? graph_.Items(metadata) : absl::Span<const PickleIndex>();
  if (parts.size() != 3) return MalformedValue("a part of a storage is not given by key, offset and size");
  storage.is_part = true;
  SCONCE_ASSIGN_OR_RETURN(storage.offset, values_.ReadCount(parts[1]));
  SCONCE_ASSIGN_OR_RETURN(storage.elements, values_.ReadCount(parts[2]));
  return absl::OkStatus();
}

// A view of a part of a storage is a view of the storage.
absl::Status TorchTensors::MoveToPart(const StorageRef& storage, TensorView& view) const {
  const int64_t end = ViewEndBytes(view);
  if (end < 0 || end / ElementBytes(view.dtype) > storage.elements ||
      __builtin_add_overflow(view.offset, storage.offset, &view.offset)) {
    return MalformedValue("a tensor reaches past the part of a storage that it is a view of");
  }
  return absl::OkStatus();
}

absl::StatusOr<StorageIndex> TorchTensors::AddStorage(absl::string_view key, absl::string_view device,
                                                      int64_t size_bytes) {
  if (!IsDeviceTag(device))
    return MalformedValue(
        absl::StrCat("storage ", Quoted(key), " is tagged ", Quoted(device), ", which is not a device"));
  Storage storage;
  storage.size_bytes = size_bytes;
  storage.device = ToStd(device);
  RecordSource record;
  if (!IsMetaDevice(device)) {
    SCONCE_ASSIGN_OR_RETURN(record, lookup_(key));
    if (record.size_bytes != size_bytes) {
      return MalformedValue(absl::StrCat("storage ", Quoted(key), " should have ", size_bytes,
                                         " bytes, its record has ", record.size_bytes));
    }
  }
  file_.manifest.storages.push_back(std::move(storage));
  file_.records.push_back(record);
  return static_cast<StorageIndex>(file_.manifest.storages.size() - 1);
}

}  // namespace sconce::format
