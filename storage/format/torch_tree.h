#ifndef SCONCE_STORAGE_FORMAT_TORCH_TREE_H_
#define SCONCE_STORAGE_FORMAT_TORCH_TREE_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/torch_reader.h"

namespace sconce::format {

// Finds the bytes of the storage that the pickle calls `key`, its checksum already checked.
using StorageLookup = absl::FunctionRef<absl::StatusOr<ByteSpan>(absl::string_view key)>;

// What a pickle by torch.save means: Python's containers and scalars, tensors, Parameters, storages. Only what the root
// reaches counts. Errors as of ReadTorchFile, with the place in the tree; the result is not yet checked by Validate.
absl::StatusOr<TorchFile> BuildTorchTree(const PickleGraph& graph, StorageLookup lookup);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_TREE_H_
