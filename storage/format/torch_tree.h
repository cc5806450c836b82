#ifndef SCONCE_STORAGE_FORMAT_TORCH_TREE_H_
#define SCONCE_STORAGE_FORMAT_TORCH_TREE_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/record_source.h"
#include "storage/format/torch_reader.h"

namespace sconce::format {

// Finds where the bytes of the storage lie that the pickle calls `key`. Reads none of them.
using StorageLookup = absl::FunctionRef<absl::StatusOr<RecordSource>(absl::string_view key)>;

// What a pickle by torch.save means: Python's containers and scalars, tensors, Parameters, storages. Only what the root
// reaches counts. Errors as of IndexTorchFile, with the place in the tree. No storage's bytes are looked at:
// inline_bytes are still empty (FinishIndex fills them), and nothing is checked by Validate.
absl::StatusOr<TorchIndex> BuildTorchTree(const PickleGraph& graph, StorageLookup lookup);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_TREE_H_
