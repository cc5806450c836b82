#ifndef SCONCE_STORAGE_FORMAT_TORCH_PICKLE_H_
#define SCONCE_STORAGE_FORMAT_TORCH_PICKLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/format/manifest.h"
#include "storage/format/storage_bytes.h"

namespace sconce::format {

// The pickle of a torch.save file, and the storages it refers to.
struct TorchPickle {
  // The bytes of a storage, one UTF-8 character for each (latin1.h), that belong into `pickle` before its byte `at`:
  // the data of a numpy array that is too large to live in the manifest.
  struct Insert {
    size_t at = 0;
    StorageIndex storage = kNoIndex;
    uint64_t utf8_bytes = 0;
  };

  std::string pickle;                  // without the inserts
  std::vector<Insert> inserts;         // in ascending order of `at`
  std::vector<StorageIndex> storages;  // of record data/0, data/1, ...: numbered as the pickle first names them
};

// The pickle, of protocol 2, from which torch.load makes the manifest's tree again: the same Python types, objects that
// were shared shared again, OrderedDicts with their attributes. What PyTorch's own files hold is written as PyTorch 2.x
// writes it, so that weights_only=True takes it, with these bounds:
//
// * PyTorch 1.13 has no function for what came later: dtypes without a storage class, conjugated or negated tensors,
//   Parameters with state, nested tensors, sparse tensors known to be coalesced or not. For compressed sparse tensors
//   it has another function than 2.x, which 2.x has not; the one of 2.x is written. It drops a tensor's attributes.
// * A numpy value needs weights_only=False or safe_globals. The names are those that numpy 1 and 2 both know:
//   numpy.core.multiarray._reconstruct and .scalar, numpy.ndarray, numpy.dtype.
// * A tensor on a meta storage becomes one without storage, as in torch.save, unless its conj or neg bit is set.
//
// FILE_UNSUPPORTED, with the place in the tree, for what no file can hold: sharded tensors, tensors of a class that
// weights_only=True would not make, a conjugated meta tensor without a storage, quantized tensors of a symmetric
// scheme, and storages that a bare storage or a quantized tensor sees as one type and another of them as another type.
//
// `bytes` is read for numpy arrays only, to learn how long their bulk storages become as text; its errors are passed
// on. Requires a valid manifest. Time and memory are linear in the manifest.
absl::StatusOr<TorchPickle> WriteTorchPickle(const Manifest& manifest, StorageBytes& bytes);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_PICKLE_H_
