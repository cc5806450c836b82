#ifndef SCONCE_STORAGE_FORMAT_TORCH_TENSORS_H_
#define SCONCE_STORAGE_FORMAT_TORCH_TENSORS_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/torch_reader.h"
#include "storage/format/torch_tree.h"
#include "storage/format/torch_values.h"

namespace sconce::format {

// Reads what a pickle says about strided tensors and storages, and adds each to the file's tables in the order it is
// met. Views are checked to lie inside their storage. Borrows everything.
class TorchTensors {
 public:
  TorchTensors(const PickleGraph& graph, StorageLookup lookup, TorchValues& values, TorchIndex& file)
      : graph_(graph), lookup_(lookup), values_(values), file_(file) {}

  // What function(*args) makes, MakesTensor(function.tag); `state` is what BUILD then gave it, or kAbsent. (A quantized
  // one is read by ReadQuantized.)
  absl::StatusOr<TensorIndex> Read(PickleGlobal function, absl::Span<const PickleIndex> args, PickleIndex state);
  // The integers of _rebuild_qtensor(storage, offset, size, stride, quantizer, requires_grad, hooks).
  absl::StatusOr<TensorIndex> ReadQuantized(absl::Span<const PickleIndex> args);
  // Whether it is a storage: a persistent id, or one made of numbers.
  bool IsStorage(PickleIndex value) const;
  // A kStorage node for one that is part of the tree itself.
  absl::StatusOr<Node> ReadBareStorage(PickleIndex storage);

 private:
  struct StorageRef {
    StorageIndex index = kNoIndex;
    uint8_t type = 0;  // as it was first named: the DType's number; 0 for an untyped storage
    // What is meant when it is a part of that storage, in elements of its type: files before PyTorch 0.4 have those.
    bool is_part = false;
    int64_t offset = 0;
    int64_t elements = 0;
  };

  absl::StatusOr<TensorView> ReadAny(PickleGlobal function, absl::Span<const PickleIndex> args, PickleIndex state);
  absl::StatusOr<TensorView> ReadView(PickleTag function, absl::Span<const PickleIndex> args);
  absl::StatusOr<TensorView> ReadMeta(absl::Span<const PickleIndex> args);
  absl::StatusOr<TensorView> ReadOldTensor(PickleGlobal type, absl::Span<const PickleIndex> args, PickleIndex state);
  absl::StatusOr<TensorView> ReadOldState(DType dtype, PickleIndex state);
  absl::StatusOr<TensorView> ViewAll(PickleIndex storage, DType dtype);
  absl::StatusOr<TensorView> ReadFromCpu(absl::Span<const PickleIndex> args);
  // The four arguments that all functions with a storage begin with.
  absl::StatusOr<TensorView> ReadPlace(absl::Span<const PickleIndex> args);
  absl::Status ReadMetadata(PickleIndex metadata, TensorView& view) const;
  absl::StatusOr<TensorIndex> Add(TensorView view);
  absl::StatusOr<StorageRef> ReadStorage(PickleIndex value);
  absl::StatusOr<StorageRef> ReadPersistent(PickleIndex persistent);
  StorageRef ReadMade(PickleIndex elements, uint8_t type);
  absl::Status ReadPart(PickleIndex metadata, StorageRef& storage) const;
  absl::Status MoveToPart(const StorageRef& storage, TensorView& view) const;
  absl::StatusOr<StorageIndex> AddStorage(absl::string_view key, absl::string_view device, int64_t size_bytes);

  const PickleGraph& graph_;
  StorageLookup lookup_;
  TorchValues& values_;
  TorchIndex& file_;
  absl::flat_hash_map<absl::string_view, StorageRef> by_key_;
  absl::flat_hash_map<PickleIndex, StorageRef> made_;  // by the value that holds the elements
  // While the tensor of a device without storages is read: that device, which its storage gets instead of its own tag.
  absl::string_view moved_to_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_TENSORS_H_
