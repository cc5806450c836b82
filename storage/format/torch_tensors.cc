#include "storage/format/torch_tensors.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sconce::format {

using Kind = PickleValue::Kind;

namespace {

// Row-major; false when it overflows. As PyTorch, which takes an extent of 0 for 1 here.
bool MakeContiguous(TensorView& view) {
  int64_t step = 1;
  view.stride.resize(view.shape.size());
  for (size_t i = view.shape.size(); i-- > 0;) {
    view.stride[i] = step;
    if (__builtin_mul_overflow(step, std::max<int64_t>(view.shape[i], 1), &step)) return false;
  }
  return true;
}

DType DTypeOfClass(PickleGlobal type) {
  return type.tag == PickleTag::kTensorClass ? DType::kFloat32 : OldTensorDType(type);
}

}  // namespace

bool TorchTensors::IsStorage(PickleIndex value) const {
  return graph_[value].kind == Kind::kPersistent || values_.IsCall(value, PickleTag::kStorageType) ||
         values_.IsCall(value, PickleTag::kTypedStorage);
}

absl::StatusOr<TensorIndex> TorchTensors::Read(PickleGlobal function, absl::Span<const PickleIndex> args,
                                               PickleIndex state) {
  SCONCE_ASSIGN_OR_RETURN(TensorView view, ReadAny(function, args, state));
  if (IsQuantized(view.dtype)) return MalformedValue("a tensor of a quantized type without its scale");
  return Add(std::move(view));
}

absl::StatusOr<TensorView> TorchTensors::ReadAny(PickleGlobal function, absl::Span<const PickleIndex> args,
                                                 PickleIndex state) {
  const bool is_class = function.tag == PickleTag::kTensorClass || function.tag == PickleTag::kOldTensorClass;
  return is_class ? ReadOldTensor(function, args, state) : ReadView(function.tag, args);
}

absl::StatusOr<TensorIndex> TorchTensors::ReadQuantized(absl::Span<const PickleIndex> args) {
  if (args.size() != 7) return MalformedValue("a quantized tensor has too few or too many arguments");
  SCONCE_ASSIGN_OR_RETURN(TensorView view, ReadPlace(args));
  if (!IsQuantized(view.dtype)) return MalformedValue("a quantized tensor of a type that is not");
  SCONCE_ASSIGN_OR_RETURN(view.requires_grad, values_.ReadBool(args[5]));
  SCONCE_RETURN_IF_ERROR(values_.CheckHooks(args[6]));
  return Add(std::move(view));
}

absl::StatusOr<Node> TorchTensors::ReadBareStorage(PickleIndex value) {
  SCONCE_ASSIGN_OR_RETURN(const StorageRef storage, ReadStorage(value));
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
  if (graph_[args[0]].kind != Kind::kPersistent) return MalformedValue("a tensor without a storage");
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

// torch.FloatTensor(), to which BUILD gives the four arguments of _rebuild_tensor: PyTorch before 0.2. And what
// PythonCalls makes of it: torch.FloatTensor(elements, shape), (storage), (tensor).
absl::StatusOr<TensorView> TorchTensors::ReadOldTensor(PickleGlobal type, absl::Span<const PickleIndex> args,
                                                       PickleIndex state) {
  const DType dtype = DTypeOfClass(type);
  if (state != PickleGraph::kAbsent) return ReadOldState(dtype, state);
  if (args.empty() || (type.tag == PickleTag::kOldTensorClass && !IsPlainTensorClass(type)))
    return UnsupportedValue("a tensor is made in a way no PyTorch saves it; save the tensor itself");
  if (args.size() == 2 && graph_[args[0]].kind == Kind::kElements) {
    TensorView view;
    view.dtype = dtype;
    view.storage = ReadMade(args[0], static_cast<uint8_t>(dtype)).index;
    SCONCE_ASSIGN_OR_RETURN(view.shape, values_.ReadDims(args[1]));
    if (!MakeContiguous(view)) return MalformedValue("a tensor's size overflows");
    return view;
  }
  if (args.size() == 1 && IsStorage(args[0])) return ViewAll(args[0], dtype);
  if (args.size() == 1 && graph_[args[0]].kind == Kind::kCall && MakesTensor(graph_[args[0]].global.tag)) {
    // PythonCalls lets none of them nest in another.
    const PickleIndex copy = args[0];
    SCONCE_ASSIGN_OR_RETURN(const TensorView view,
                            ReadAny(graph_[copy].global, graph_.Items(graph_.Args(copy)), graph_.State(copy)));
    if (type.tag == PickleTag::kOldTensorClass && view.dtype != dtype)
      return MalformedValue("a tensor is made of one of another dtype");
    return view;
  }
  return UnsupportedValue("a tensor is made in a way no PyTorch saves it; save the tensor itself");
}

// What Tensor.set_ takes: (storage, offset, size, stride), without the last, or the storage alone.
absl::StatusOr<TensorView> TorchTensors::ReadOldState(DType dtype, PickleIndex state) {
  const bool is_sequence = graph_[state].kind == Kind::kTuple || graph_[state].kind == Kind::kList;
  const absl::Span<const PickleIndex> parts = is_sequence ? graph_.Items(state) : absl::Span<const PickleIndex>();
  if (parts.empty() || !IsStorage(parts[0]))
    return UnsupportedValue("a tensor is given a state that no PyTorch saves; save the tensor itself");
  if (parts.size() == 1) return ViewAll(parts[0], dtype);
  if (parts.size() < 3 || parts.size() > 4) return MalformedValue("a tensor is given a state that no PyTorch saves");
  SCONCE_ASSIGN_OR_RETURN(TensorView view, ReadPlace(parts));
  if (graph_[parts[0]].kind != Kind::kPersistent) view.dtype = dtype;
  return view;
}

// A tensor of one dimension that sees all of a storage.
absl::StatusOr<TensorView> TorchTensors::ViewAll(PickleIndex storage, DType dtype) {
  SCONCE_ASSIGN_OR_RETURN(const StorageRef ref, ReadStorage(storage));
  if (ref.is_part) return UnsupportedValue("a tensor of a part of a storage; save the tensor itself");
  const bool is_loaded =
      graph_[storage].kind == Kind::kPersistent;  // then torch.load makes an untyped one one of uint8
  const DType type = ref.type != 0 ? static_cast<DType>(ref.type) : is_loaded ? DType::kUInt8 : dtype;
  if (type != dtype) return MalformedValue("a tensor is made of a storage of another dtype");
  TensorView view;
  view.dtype = dtype;
  view.storage = ref.index;
  view.shape = {file_.manifest.storages[ref.index].size_bytes / ElementBytes(dtype)};
  view.stride = {1};
  return view;
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
  if (!IsStorage(args[0])) return MalformedValue("a tensor without a storage");
  SCONCE_ASSIGN_OR_RETURN(const StorageRef storage, ReadStorage(args[0]));
  TensorView view;
  view.storage = storage.index;
  SCONCE_ASSIGN_OR_RETURN(view.offset, values_.ReadCount(args[1]));
  SCONCE_ASSIGN_OR_RETURN(view.shape, values_.ReadDims(args[2]));
  if (args.size() == 3) {
    if (!MakeContiguous(view)) return MalformedValue("a tensor's size overflows");
  } else {
    SCONCE_ASSIGN_OR_RETURN(view.stride, values_.ReadDims(args[3]));
  }
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

absl::StatusOr<TorchTensors::StorageRef> TorchTensors::ReadStorage(PickleIndex value) {
  if (graph_[value].kind == Kind::kPersistent) return ReadPersistent(value);
  const bool is_typed = values_.IsCall(value, PickleTag::kTypedStorage);
  return ReadMade(graph_.Items(graph_.Args(value))[0], is_typed ? static_cast<uint8_t>(DType::kFloat32) : 0);
}

// A storage that lies in no record.
TorchTensors::StorageRef TorchTensors::ReadMade(PickleIndex elements, uint8_t type) {
  if (const auto it = made_.find(elements); it != made_.end()) return it->second;
  const auto bytes = std::make_shared<const std::string>(graph_.Text(elements));
  Storage storage;
  storage.size_bytes = static_cast<int64_t>(bytes->size());
  storage.device = "cpu";
  RecordSource record = RecordSource::Plain(AsBytes(*bytes));
  record.owner = bytes;
  StorageRef made;
  made.index = static_cast<StorageIndex>(file_.manifest.storages.size());
  made.type = type;
  file_.manifest.storages.push_back(std::move(storage));
  file_.records.push_back(std::move(record));
  made_.emplace(elements, made);
  return made;
}

// A persistent id is ('storage', class, key, location, number of elements), and in the legacy container a sixth: None,
// or (key, offset, number of elements) of the part of that storage which is meant.
absl::StatusOr<TorchTensors::StorageRef> TorchTensors::ReadPersistent(PickleIndex persistent) {
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
