#ifndef SCONCE_STORAGE_FORMAT_TORCH_STORAGE_TYPES_H_
#define SCONCE_STORAGE_FORMAT_TORCH_STORAGE_TYPES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "storage/format/manifest.h"

namespace sconce::format {

// The class a torch file names each storage by. torch.load gives a storage one class, that of its first mention:
// bare storages and quantized tensors take their dtype from it, while any other tensor can bring its own along
// (_rebuild_tensor_v3). So a storage gets the dtype of its bare mention or its quantized tensor; else the dtype that
// all its tensors have in common, which is what torch.save gives it; else it is untyped, as it is when the dtype has no
// storage class or its elements do not fill the storage.
class TorchStorageTypes {
 public:
  // `manifest` must be valid; it is not kept.
  explicit TorchStorageTypes(const Manifest& manifest);

  // nullopt: untyped.
  std::optional<DType> TypeOf(StorageIndex storage) const { return types_[storage].dtype; }
  // Whether torch.load makes of the storage what this bare mention (a node of kind kStorage) says.
  bool FitsBare(const Node& node) const;

 private:
  struct Type {
    bool chosen = false;
    bool pinned = false;  // by a bare mention or a quantized tensor
    std::optional<DType> dtype;
  };
  void Use(const Manifest& manifest, StorageIndex storage, std::optional<DType> dtype, bool pin);

  std::vector<Type> types_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_STORAGE_TYPES_H_
