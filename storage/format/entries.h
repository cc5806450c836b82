#ifndef SCONCE_STORAGE_FORMAT_ENTRIES_H_
#define SCONCE_STORAGE_FORMAT_ENTRIES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// One place of the tree as a person wants to see it. Fields that do not apply are empty or zero.
struct Entry {
  std::string path;  // path.h
  NodeKind kind = NodeKind::kNone;
  std::string
      type;  // "dict", "list", "float", "str", "tensor", "parameter", "sparse_tensor", "numpy_array" ... (TypeName)

  // Tensors of all kinds; dtype, shape, device and bytes also for arrays and bare storages.
  std::string dtype;   // "float32"; numpy's own ("<f4") for numpy values; "untyped" for an untyped storage
  Dims shape;          // of a sparse or sharded tensor: the global shape
  Dims stride;         // strided tensors only
  int64_t offset = 0;  // strided tensors only; in elements
  std::string device;
  int64_t bytes = 0;  // of the view: elements x element size, the sum over the components of a tensor made of several
  bool requires_grad = false;
  StorageIndex storage = kNoIndex;  // of the (first component) tensor
  bool shares_storage = false;      // an earlier entry already showed this storage

  std::string value;     // scalars, sets and other small things: Python's repr, cut to at most 120 bytes
  int64_t children = 0;  // dicts, lists, tuples and sets: how many elements
};

// What is to be said about one node wherever it stands: `path` is empty and `shares_storage` false. Requires a valid
// manifest.
Entry DescribeNode(const Manifest& manifest, NodeIndex node);

struct EntryPage {
  std::vector<Entry> entries;
  int64_t next = -1;  // the number to continue with; -1 at the end
};

// The entries numbered first, first + 1, ... (at most `max_entries`), numbered in the order of ForEachPath; the root is
// 0. Containers are entries too. ARGUMENT_INVALID for a negative number; a `first` past the end is an empty page.
// INPUT_LIMIT_EXCEEDED when the tree has too many paths. Takes time proportional to first + max_entries. Requires a
// valid manifest.
absl::StatusOr<EntryPage> ListEntries(const Manifest& manifest, int64_t first, int64_t max_entries);

// What is in a checkpoint, each distinct object once however often it is named. Sums saturate at INT64_MAX.
struct Totals {
  int64_t tensors = 0;              // tensors of all kinds; a Parameter is one
  int64_t parameters_elements = 0;  // their elements (of the global shape, for sparse and sharded ones)
  int64_t scalars = 0;              // all other leaves of the tree
  int64_t tensor_bytes = 0;         // Entry::bytes of the tensors
  int64_t storages = 0;
  int64_t storage_bytes = 0;  // of those that have bytes (not meta)
};
// Requires a valid manifest. Linear in its size.
Totals CountTotals(const Manifest& manifest);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_ENTRIES_H_
