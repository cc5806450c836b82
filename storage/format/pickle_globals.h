#ifndef SCONCE_STORAGE_FORMAT_PICKLE_GLOBALS_H_
#define SCONCE_STORAGE_FORMAT_PICKLE_GLOBALS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "storage/format/dtype.h"

// The fixed list of classes, functions and constants that a pickle may name. None is ever called: a name becomes a tag,
// and what Python would compute from it is read as data.
namespace sconce::format {

enum class PickleTag : uint8_t {
  kNone,
  // Called in a pickle
  kOrderedDict,
  kCounter,
  kSet,
  kComplex,
  kBytes,
  kByteArray,
  kEncode,  // _codecs.encode: bytes, in protocol 2
  kSize,
  kDevice,
  kGetLayout,
  kRebuildTensor,
  kRebuildTensorV2,
  kRebuildTensorV3,
  kRebuildMetaTensor,
  kRebuildParameter,
  kRebuildParameterWithState,
  kParameter,
  kRebuildSparse,
  kRebuildQuantized,
  kRebuildNested,
  kRebuildFromCpu,
  kRebuildFromNumpy,
  kRebuildWrapper,
  kRebuildFromType,
  kRebuildJagged,
  // Only in the pickle of a TorchScript archive (FindScriptGlobal)
  kScriptClass,     // a class of the archive's own
  kScriptList,      // torch.jit._pickle.build_intlist and its like: its argument, a list
  kScriptTyped,     // torch.jit._pickle.restore_type_tag: its first argument, a list or dict
  kTensorClass,     // torch.Tensor
  kOldTensorClass,  // torch.FloatTensor and its like, of PyTorch before 0.4
  kNumpyScalar,
  kNumpyReconstruct,
  kNumpyFromBuffer,
  kException,    // of builtins
  kObjectClass,  // another class whose instances are only data
  kListClass,    // one that is a list
  kValueClass,   // one whose instances are equal when what they hold is, and so can be in sets
  kNumpyDtype,
  kTypedStorage,
  kStorageType,  // called only UntypedStorage
  // Only named
  kNumpyClass,
  kJaggedClass,
  kWrapperClass,  // of a tensor that is made of its attributes: DTensor
  kDtype,
  kQScheme,
};

// Whether its instances are kObject nodes.
inline bool IsObjectClass(PickleTag tag) {
  return tag == PickleTag::kException || tag == PickleTag::kObjectClass || tag == PickleTag::kListClass ||
         tag == PickleTag::kValueClass;
}

struct PickleGlobal {
  PickleTag tag = PickleTag::kNone;
  uint8_t number = 0;    // kDtype, kStorageType: the DType, 0 for UntypedStorage; else for PickleGlobalName
  bool is_cuda = false;  // kStorageType: of torch.cuda
};

// Whether REDUCE may apply to it.
inline bool IsCallable(PickleGlobal global) {
  if (global.tag == PickleTag::kStorageType) return global.number == 0;  // the others are only names to PyTorch
  return global.tag != PickleTag::kNone && global.tag <= PickleTag::kTypedStorage;
}

// Whether a call of it makes a strided tensor, unless it is a quantized one.
inline bool MakesTensor(PickleTag tag) {
  return (tag >= PickleTag::kRebuildTensor && tag <= PickleTag::kRebuildMetaTensor) ||
         tag == PickleTag::kRebuildFromCpu || tag == PickleTag::kTensorClass || tag == PickleTag::kOldTensorClass;
}

// Of a kOldTensorClass: the dtype of its elements, and whether it is a class of torch itself (the others are of devices
// and sparse).
DType OldTensorDType(PickleGlobal global);
bool IsPlainTensorClass(PickleGlobal global);

// nullopt for everything that is not on the list.
std::optional<PickleGlobal> FindPickleGlobal(absl::string_view module, absl::string_view name);
// What the pickles of a TorchScript archive may name beside those: classes whose code is in the archive (all are one to
// us: objects with attributes) and the functions that type lists and dicts.
std::optional<PickleGlobal> FindScriptGlobal(absl::string_view module, absl::string_view name);
// Every name on the list, as "torch._utils _rebuild_tensor_v2", sorted: docs/formats/torch_file.md is held against it.
std::vector<std::string> AllPickleGlobals();
// The global of which PickleGlobalName is `name`; nullopt when there is none.
std::optional<PickleGlobal> FindGlobalByName(absl::string_view name);
// Whether `name` can be the text of a kGlobal node: anything on the list but dtypes and qschemes, which have nodes of
// their own.
bool IsGlobalNode(absl::string_view name);
// "torch._utils._rebuild_tensor_v2"
std::string PickleGlobalName(PickleGlobal global);

// The class torch.save writes for a storage of `dtype`: "FloatStorage"; empty when the dtype has none (then it is
// UntypedStorage).
absl::string_view StorageTypeName(DType dtype);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PICKLE_GLOBALS_H_
