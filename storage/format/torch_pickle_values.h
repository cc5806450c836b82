#ifndef SCONCE_STORAGE_FORMAT_TORCH_PICKLE_VALUES_H_
#define SCONCE_STORAGE_FORMAT_TORCH_PICKLE_VALUES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "storage/format/manifest.h"
#include "storage/format/pickle_writer.h"
#include "storage/format/storage_bytes.h"
#include "storage/format/torch_pickle.h"
#include "storage/format/torch_storage_types.h"

namespace sconce::format {

// Writes the values of a tree that no other node is written inside of (scalars, strided tensors, storages), and the
// parts of the others that are no nodes. The functions that a tensor is made by and their arguments are those of
// torch/_utils.py and torch/_tensor.py. Errors say what cannot be written, not where it is. Borrows what it is made
// from.
class TorchPickleValues {
 public:
  TorchPickleValues(const Manifest& manifest, StorageBytes& bytes, PickleWriter& out);

  // A node without children, or one whose children are not written: everything but containers and composites. With a
  // `new_type` a tensor is opened and closed as Call and EndCall say.
  absl::Status Leaf(const Node& node, absl::string_view new_type);

  // A class or function by its name, "module.Name".
  void Global(absl::string_view name);

  // The start of a call of function module.name: the arguments follow, then EndCall. With a `new_type` ("module.Class")
  // nothing is called: the function, the class and the tuple of the arguments remain on the stack, which is what
  // _rebuild_from_type_v2 takes.
  void Call(absl::string_view module, absl::string_view name, absl::string_view new_type);
  void EndCall(absl::string_view new_type);
  // FILE_UNSUPPORTED unless it is a class that torch.load(weights_only=True) may make of a tensor: a file must not name
  // whatever module a manifest wants to see imported.
  absl::Status CheckTensorClass(absl::string_view name) const;

  // The arguments of _rebuild_qtensor before those of its quantizer. FILE_UNSUPPORTED when its scheme (text of a
  // kQScheme) or its storage is one that it does not take.
  absl::Status QuantizedStart(const TensorView& view, absl::string_view scheme);
  void Hooks();  // the empty OrderedDict where a tensor's backward hooks would be
  void EmptyOrderedDict();

  // numpy.dtype as numpy pickles it. FILE_UNSUPPORTED for a date in a unit that numpy does not have.
  absl::Status NumpyDtypeObject(absl::string_view dtype);
  // The head of a numpy array: an empty array, to be filled by BUILD.
  void EmptyNumpyArray();
  // A storage's bytes as a bytes object: the data of a numpy array.
  absl::Status StorageAsBytes(StorageIndex storage);

  // What the pickle refers to, when it is complete.
  std::vector<StorageIndex> TakeStorages() { return std::move(storages_); }
  std::vector<TorchPickle::Insert> TakeInserts() { return std::move(inserts_); }

 private:
  static constexpr PickleWriter::Memo kNoMemo = UINT32_MAX;

  void Device(absl::string_view device);
  absl::Status QScheme(absl::string_view scheme);
  absl::Status Tensor(const TensorView& view, absl::string_view new_type);
  void StridedTensor(const TensorView& view, absl::string_view new_type);
  bool HasNoStorages(StorageIndex storage) const;
  void MetaTensor(const TensorView& view, absl::string_view new_type);
  void Metadata(const TensorView& view);
  void DimsTuple(const Dims& dims);
  absl::Status BareStorage(const Node& node);
  void StorageReference(StorageIndex storage);
  bool IsMeta(StorageIndex storage) const {
    return storage == kNoIndex || IsMetaDevice(manifest_.storages[storage].device);
  }

  const Manifest& manifest_;
  StorageBytes& bytes_;
  PickleWriter& out_;
  const TorchStorageTypes types_;
  std::vector<StorageIndex> storages_;
  std::vector<TorchPickle::Insert> inserts_;
  std::vector<PickleWriter::Memo> memo_of_storage_;
  std::vector<PickleWriter::Memo> memo_of_bytes_;  // of each storage
  // Of each storage: the pickle has it not only in strided tensors, so that it must say its own device.
  std::vector<bool> names_device_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_PICKLE_VALUES_H_
