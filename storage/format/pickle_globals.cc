#include "storage/format/pickle_globals.h"

#include <algorithm>
#include <iterator>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sconce::format {
namespace {

struct Entry {
  const char* module;
  const char* name;
  PickleTag tag;
};

constexpr Entry kEntries[] = {
    {"collections", "OrderedDict", PickleTag::kOrderedDict},
    {"collections", "Counter", PickleTag::kCounter},
    {"builtins", "set", PickleTag::kSet},
    {"builtins", "complex", PickleTag::kComplex},
    {"builtins", "bytes", PickleTag::kBytes},
    {"builtins", "bytearray", PickleTag::kByteArray},
    {"_codecs", "encode", PickleTag::kEncode},
    {"torch", "Size", PickleTag::kSize},
    {"torch", "device", PickleTag::kDevice},
    {"torch.serialization", "_get_layout", PickleTag::kGetLayout},
    {"torch._utils", "_rebuild_tensor", PickleTag::kRebuildTensor},
    {"torch._utils", "_rebuild_tensor_v2", PickleTag::kRebuildTensorV2},
    {"torch._utils", "_rebuild_tensor_v3", PickleTag::kRebuildTensorV3},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", PickleTag::kRebuildMetaTensor},
    {"torch._utils", "_rebuild_parameter", PickleTag::kRebuildParameter},
    {"torch._utils", "_rebuild_parameter_with_state", PickleTag::kRebuildParameterWithState},
    {"torch.nn.parameter", "Parameter", PickleTag::kParameter},
    {"torch", "per_tensor_affine", PickleTag::kQScheme},
    {"torch", "per_channel_affine", PickleTag::kQScheme},
    {"torch", "per_tensor_symmetric", PickleTag::kQScheme},
    {"torch", "per_channel_symmetric", PickleTag::kQScheme},
    {"torch", "per_channel_affine_float_qparams", PickleTag::kQScheme},
    {"torch._utils", "_rebuild_sparse_tensor", PickleTag::kRebuildSparse},
    {"torch._utils", "_rebuild_sparse_csr_tensor", PickleTag::kRebuildSparse},  // PyTorch before 2.0, for CSR
    {"torch._utils", "_rebuild_qtensor", PickleTag::kRebuildQuantized},
    {"torch._utils", "_rebuild_nested_tensor", PickleTag::kRebuildNested},
    {"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", PickleTag::kRebuildFromCpu},
    {"torch._utils", "_rebuild_device_tensor_from_numpy", PickleTag::kRebuildFromNumpy},
    {"torch._utils", "_rebuild_wrapper_subclass", PickleTag::kRebuildWrapper},
    {"torch._tensor", "_rebuild_from_type_v2", PickleTag::kRebuildFromType},
    {"torch._tensor", "_rebuild_from_type", PickleTag::kRebuildFromType},  // PyTorch before 1.12
    {"torch.nested._internal.nested_tensor", "_rebuild_njt", PickleTag::kRebuildJagged},
    {"torch.nested._internal.nested_tensor", "NestedTensor", PickleTag::kJaggedClass},
    {"torch", "Tensor", PickleTag::kTensorClass},
    {"numpy.core.multiarray", "scalar", PickleTag::kNumpyScalar},
    {"numpy._core.multiarray", "scalar", PickleTag::kNumpyScalar},  // numpy 2, as the other ones with _core
    {"numpy.core.multiarray", "_reconstruct", PickleTag::kNumpyReconstruct},
    {"numpy._core.multiarray", "_reconstruct", PickleTag::kNumpyReconstruct},
    {"numpy.core.numeric", "_frombuffer", PickleTag::kNumpyFromBuffer},
    {"numpy._core.numeric", "_frombuffer", PickleTag::kNumpyFromBuffer},
    {"numpy", "dtype", PickleTag::kNumpyDtype},
    {"numpy", "ndarray", PickleTag::kNumpyClass},
    {"torch.storage", "TypedStorage", PickleTag::kTypedStorage},
    // What PyTorch adds to its list when it, torch._dynamo or torch.distributed.tensor is imported.
    {"traceback", "FrameSummary", PickleTag::kObjectClass},
    {"traceback", "StackSummary", PickleTag::kListClass},
    {"torch._dynamo.decorators", "_DimRange", PickleTag::kValueClass},
    {"torch.distributed._mesh_layout", "_FlatLayout", PickleTag::kObjectClass},
    {"torch.distributed._mesh_layout", "_MeshLayout", PickleTag::kObjectClass},
    {"torch.distributed.device_mesh", "DeviceMesh", PickleTag::kObjectClass},
    {"torch.distributed.tensor", "DTensor", PickleTag::kWrapperClass},
    {"torch.distributed.tensor._dtensor_spec", "DTensorSpec", PickleTag::kObjectClass},
    {"torch.distributed.tensor._dtensor_spec", "ShardOrderEntry", PickleTag::kObjectClass},
    {"torch.distributed.tensor._dtensor_spec", "TensorMeta", PickleTag::kObjectClass},
    {"torch.distributed.tensor.placement_types", "Partial", PickleTag::kObjectClass},
    {"torch.distributed.tensor.placement_types", "Replicate", PickleTag::kObjectClass},
    {"torch.distributed.tensor.placement_types", "Shard", PickleTag::kObjectClass},
    {"torch.distributed.tensor.placement_types", "_StridedShard", PickleTag::kObjectClass},
};

// Every class of Python 3.13's builtins that is a BaseException, all of which PyTorch allows.
constexpr const char* kExceptions[] = {"ArithmeticError",
                                       "AssertionError",
                                       "AttributeError",
                                       "BaseException",
                                       "BaseExceptionGroup",
                                       "BlockingIOError",
                                       "BrokenPipeError",
                                       "BufferError",
                                       "BytesWarning",
                                       "ChildProcessError",
                                       "ConnectionAbortedError",
                                       "ConnectionError",
                                       "ConnectionRefusedError",
                                       "ConnectionResetError",
                                       "DeprecationWarning",
                                       "EOFError",
                                       "EncodingWarning",
                                       "Exception",
                                       "ExceptionGroup",
                                       "FileExistsError",
                                       "FileNotFoundError",
                                       "FloatingPointError",
                                       "FutureWarning",
                                       "GeneratorExit",
                                       "ImportError",
                                       "ImportWarning",
                                       "IndentationError",
                                       "IndexError",
                                       "InterruptedError",
                                       "IsADirectoryError",
                                       "KeyError",
                                       "KeyboardInterrupt",
                                       "LookupError",
                                       "MemoryError",
                                       "ModuleNotFoundError",
                                       "NameError",
                                       "NotADirectoryError",
                                       "NotImplementedError",
                                       "OSError",
                                       "OverflowError",
                                       "PendingDeprecationWarning",
                                       "PermissionError",
                                       "ProcessLookupError",
                                       "PythonFinalizationError",
                                       "RecursionError",
                                       "ReferenceError",
                                       "ResourceWarning",
                                       "RuntimeError",
                                       "RuntimeWarning",
                                       "StopAsyncIteration",
                                       "StopIteration",
                                       "SyntaxError",
                                       "SyntaxWarning",
                                       "SystemError",
                                       "SystemExit",
                                       "TabError",
                                       "TimeoutError",
                                       "TypeError",
                                       "UnboundLocalError",
                                       "UnicodeDecodeError",
                                       "UnicodeEncodeError",
                                       "UnicodeError",
                                       "UnicodeTranslateError",
                                       "UnicodeWarning",
                                       "UserWarning",
                                       "ValueError",
                                       "Warning",
                                       "ZeroDivisionError",
                                       "_IncompleteInputError"};

struct StorageType {
  const char* name;
  DType dtype;
};

constexpr StorageType kStorageTypes[] = {
    {"FloatStorage", DType::kFloat32},
    {"DoubleStorage", DType::kFloat64},
    {"HalfStorage", DType::kFloat16},
    {"BFloat16Storage", DType::kBFloat16},
    {"LongStorage", DType::kInt64},
    {"IntStorage", DType::kInt32},
    {"ShortStorage", DType::kInt16},
    {"CharStorage", DType::kInt8},
    {"ByteStorage", DType::kUInt8},
    {"BoolStorage", DType::kBool},
    {"ComplexFloatStorage", DType::kComplex64},
    {"ComplexDoubleStorage", DType::kComplex128},
    {"QInt8Storage", DType::kQInt8},
    {"QUInt8Storage", DType::kQUInt8},
    {"QInt32Storage", DType::kQInt32},
    {"QUInt4x2Storage", DType::kQUInt4x2},
    {"QUInt2x4Storage", DType::kQUInt2x4},
};

// The classes of tensors that PyTorch had before 0.4, a module for each device and layout.
constexpr const char* kTensorClasses[] = {"FloatTensor", "DoubleTensor", "HalfTensor", "BFloat16Tensor", "LongTensor",
                                          "IntTensor",   "ShortTensor",  "CharTensor", "ByteTensor",     "BoolTensor"};
constexpr DType kTensorDTypes[] = {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16, DType::kInt64,
                                   DType::kInt32,   DType::kInt16,   DType::kInt8,    DType::kUInt8,    DType::kBool};
constexpr const char* kTensorModules[] = {"torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse"};

// What FindPickleGlobal knows, keyed "module name". Built once; read-only afterwards.
const absl::flat_hash_map<std::string, PickleGlobal>& Globals() {
  static const auto& globals = *[] {
    auto* map = new absl::flat_hash_map<std::string, PickleGlobal>;
    for (size_t i = 0; i < std::size(kEntries); ++i) {
      const PickleGlobal global{kEntries[i].tag, static_cast<uint8_t>(i)};
      map->emplace(absl::StrCat(kEntries[i].module, " ", kEntries[i].name), global);
      // Protocol 2 writes Python 2's name of the module.
      if (absl::string_view(kEntries[i].module) == "builtins")
        map->emplace(absl::StrCat("__builtin__ ", kEntries[i].name), global);
    }
    for (const StorageType& type : kStorageTypes) {
      const PickleGlobal global{PickleTag::kStorageType, static_cast<uint8_t>(type.dtype)};
      map->emplace(absl::StrCat("torch ", type.name), global);
      // PyTorch before 1.6 kept the device in the class.
      map->emplace(absl::StrCat("torch.cuda ", type.name), PickleGlobal{global.tag, global.number, /*is_cuda=*/true});
    }
    for (size_t i = 0; i < std::size(kExceptions); ++i) {
      const PickleGlobal global{PickleTag::kException, static_cast<uint8_t>(i)};
      for (const char* module : {"builtins", "__builtin__", "exceptions"})
        map->emplace(absl::StrCat(module, " ", kExceptions[i]), global);
    }
    for (size_t m = 0; m < std::size(kTensorModules); ++m) {
      for (size_t c = 0; c < std::size(kTensorClasses); ++c) {
        const auto number = static_cast<uint8_t>(m * std::size(kTensorClasses) + c);
        map->emplace(absl::StrCat(kTensorModules[m], " ", kTensorClasses[c]),
                     PickleGlobal{PickleTag::kOldTensorClass, number});
      }
    }
    for (const char* module : {"torch", "torch.storage"}) {
      map->emplace(absl::StrCat(module, " UntypedStorage"), PickleGlobal{PickleTag::kStorageType, 0});
    }
    return map;
  }();
  return globals;
}

}  // namespace

std::optional<PickleGlobal> FindPickleGlobal(absl::string_view module, absl::string_view name) {
  if (module == "torch") {
    if (const auto dtype = ParseDType(name); dtype.has_value() && DTypeName(*dtype) == name) {
      return PickleGlobal{PickleTag::kDtype, static_cast<uint8_t>(*dtype)};
    }
  }
  const auto it = Globals().find(absl::StrCat(module, " ", name));
  if (it == Globals().end()) return std::nullopt;
  return it->second;
}

std::optional<PickleGlobal> FindScriptGlobal(absl::string_view module, absl::string_view name) {
  if (module == "__torch__" || absl::StartsWith(module, "__torch__.")) return PickleGlobal{PickleTag::kScriptClass, 0};
  if (module != "torch.jit._pickle") return std::nullopt;
  if (name == "restore_type_tag") return PickleGlobal{PickleTag::kScriptTyped, 0};
  for (const absl::string_view build : {"build_intlist", "build_tensorlist", "build_doublelist", "build_boollist"}) {
    if (name == build) return PickleGlobal{PickleTag::kScriptList, 0};
  }
  return std::nullopt;
}

std::optional<PickleGlobal> FindGlobalByName(absl::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == absl::string_view::npos) return std::nullopt;
  const std::optional<PickleGlobal> global = FindPickleGlobal(name.substr(0, dot), name.substr(dot + 1));
  if (!global.has_value() || PickleGlobalName(*global) != name) return std::nullopt;  // another name of the same thing
  return global;
}

bool IsGlobalNode(absl::string_view name) {
  const std::optional<PickleGlobal> global = FindGlobalByName(name);
  return global.has_value() && global->tag != PickleTag::kDtype && global->tag != PickleTag::kQScheme;
}

std::vector<std::string> AllPickleGlobals() {
  std::vector<std::string> names;
  for (const auto& [name, global] : Globals()) names.push_back(name);
  for (int number = 0; number <= UINT8_MAX; ++number) {
    const std::optional<DType> dtype = DTypeFromNumber(static_cast<uint8_t>(number));
    if (dtype.has_value()) names.push_back(absl::StrCat("torch ", DTypeName(*dtype)));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string PickleGlobalName(PickleGlobal global) {
  if (global.tag == PickleTag::kDtype) return absl::StrCat("torch.", DTypeName(static_cast<DType>(global.number)));
  if (global.tag == PickleTag::kStorageType) {
    return global.number == 0 ? "torch.storage.UntypedStorage"
                              : absl::StrCat(global.is_cuda ? "torch.cuda." : "torch.",
                                             StorageTypeName(static_cast<DType>(global.number)));
  }
  if (global.tag == PickleTag::kScriptClass) return "a class of the TorchScript archive";
  if (global.tag == PickleTag::kScriptList || global.tag == PickleTag::kScriptTyped) return "torch.jit._pickle";
  if (global.tag == PickleTag::kException) return absl::StrCat("builtins.", kExceptions[global.number]);
  if (global.tag == PickleTag::kOldTensorClass) {
    return absl::StrCat(kTensorModules[global.number / std::size(kTensorClasses)], ".",
                        kTensorClasses[global.number % std::size(kTensorClasses)]);
  }
  return absl::StrCat(kEntries[global.number].module, ".", kEntries[global.number].name);
}

DType OldTensorDType(PickleGlobal global) {
  return kTensorDTypes[global.number % std::size(kTensorClasses)];
}

bool IsPlainTensorClass(PickleGlobal global) {
  return global.number < std::size(kTensorClasses);
}

absl::string_view StorageTypeName(DType dtype) {
  for (const StorageType& type : kStorageTypes) {
    if (type.dtype == dtype) return type.name;
  }
  return "";
}

}  // namespace sconce::format
