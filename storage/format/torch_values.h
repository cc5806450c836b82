#ifndef SCONCE_STORAGE_FORMAT_TORCH_VALUES_H_
#define SCONCE_STORAGE_FORMAT_TORCH_VALUES_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/torch_reader.h"
#include "storage/format/torch_tree.h"

namespace sconce::format {

// Reads the single values of a tree, those that no other node hangs below: scalars, tensors, storages. Collects the
// tensors and storages it meets, in that order. Borrows what it is made from.
class TorchValues {
 public:
  TorchValues(const PickleGraph& graph, StorageLookup lookup) : graph_(graph), lookup_(lookup) {}

  // True for the values that Read takes; false for containers and Parameters.
  bool IsLeaf(PickleIndex value) const;
  absl::StatusOr<Node> Read(PickleIndex value);

  // Fails unless `hooks` is the empty OrderedDict that stands where a tensor's backward hooks would.
  absl::Status CheckHooks(PickleIndex hooks) const;
  absl::StatusOr<bool> ReadBool(PickleIndex value) const;

  // Honest files write each element of a set, each extent of a shape, each byte of a bytes object at least once; a file
  // that names one tuple or str a thousand times to blow up its result exceeds this. `n` more elements were made.
  absl::Status Charge(size_t n);

  std::vector<TensorView> tensors;
  std::vector<Storage> storages;
  std::vector<RecordSource> records;  // of each storage; an empty one for a meta storage

 private:
  struct StorageRef {
    StorageIndex index = kNoIndex;
    uint8_t type = 0;  // as it was first named: the DType's number; 0 for an untyped storage
    // What is meant when it is a part of that storage, in elements of its type: files before PyTorch 0.4 have those.
    bool is_part = false;
    int64_t offset = 0;
    int64_t elements = 0;
  };

  absl::StatusOr<Node> ReadCall(PickleIndex value);
  absl::StatusOr<Node> ReadGlobal(PickleIndex value) const;
  absl::StatusOr<Node> ReadText(NodeKind kind, absl::Span<const PickleIndex> args);
  absl::StatusOr<Node> ReadComplex(absl::Span<const PickleIndex> args) const;
  absl::StatusOr<Node> ReadDevice(absl::Span<const PickleIndex> args) const;
  absl::StatusOr<Node> ReadLayout(absl::Span<const PickleIndex> args) const;
  absl::StatusOr<Node> ReadTensor(PickleIndex call);
  absl::StatusOr<TensorView> ReadView(PickleGlobal function, absl::Span<const PickleIndex> args);
  absl::Status CheckView(const TensorView& view) const;
  absl::Status ReadMetadata(PickleIndex metadata, TensorView& view) const;
  absl::StatusOr<StorageRef> ReadStorage(PickleIndex persistent);
  absl::Status ReadPart(PickleIndex metadata, StorageRef& storage) const;
  absl::Status MoveToPart(const StorageRef& storage, TensorView& view) const;
  absl::StatusOr<StorageIndex> AddStorage(absl::string_view key, absl::string_view device, int64_t size_bytes);

  absl::StatusOr<int64_t> ReadCount(PickleIndex value) const;  // an int of at least 0
  absl::StatusOr<DType> ReadDType(PickleIndex value) const;
  absl::StatusOr<Dims> ReadDims(PickleIndex value);
  bool IsStr(PickleIndex value) const { return graph_[value].kind == PickleValue::Kind::kStr; }

  const PickleGraph& graph_;
  StorageLookup lookup_;
  absl::flat_hash_map<absl::string_view, StorageRef> by_key_;
  size_t charged_ = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_VALUES_H_
