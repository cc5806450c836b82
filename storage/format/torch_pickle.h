#ifndef SCONCE_STORAGE_FORMAT_TORCH_PICKLE_H_
#define SCONCE_STORAGE_FORMAT_TORCH_PICKLE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// The pickle of a torch.save file, and the storages it refers to.
struct TorchPickle {
  std::string pickle;
  std::vector<StorageIndex> storages;  // of record data/0, data/1, ...: numbered as the pickle first names them
};

// The pickle from which torch.load makes the manifest's tree again: the same Python types, objects that were shared
// shared again, OrderedDicts with their attributes. A tensor on a meta storage becomes one without storage, as
// torch.save itself writes it. FILE_UNSUPPORTED, with the place in the tree, for kinds that cannot be written yet.
// Requires a valid manifest.
absl::StatusOr<TorchPickle> WriteTorchPickle(const Manifest& manifest);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_PICKLE_H_
