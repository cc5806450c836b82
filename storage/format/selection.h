#ifndef SCONCE_STORAGE_FORMAT_SELECTION_H_
#define SCONCE_STORAGE_FORMAT_SELECTION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// Which part of a checkpoint a reader wants.
struct Selection {
  std::string root;                  // a path (path.h) that becomes the root of the result; "" is the whole
  std::vector<std::string> include;  // patterns (glob.h) over paths under the root; none means everything
  std::vector<std::string> exclude;  // likewise; wins over include

  bool empty() const { return root.empty() && include.empty() && exclude.empty(); }
};

struct Selected {
  Manifest manifest;
  std::vector<StorageIndex> source;  // for each storage of `manifest`, its index in the original; ascending
};

// The selected part as a manifest of its own, marked derived unless the selection is empty. Pure.
//
//  * A pattern without wildcards means that node and all below it; one with wildcards means the paths it matches:
//  "/model/**"
//    is all below /model, "/model/*" only what is directly in it.
//  * include decides about data: tensors of every kind, arrays and bare storages. What is not matched is dropped.
//  Scalars
//    stay.
//  * exclude drops whatever it matches, with all below it, scalars too. The root itself is never dropped.
//  * A dropped dict entry is gone; a dropped list or tuple element becomes None. A container that lost every one of its
//    elements is itself dropped.
//  * What is left keeps its order, its sharing (of nodes and of storages) and attributes (the __dict__ of an
//  OrderedDict).
//    Storages that nothing refers to any more are gone, and the others keep their order.
//
// PATH_INVALID or PATH_NOT_FOUND for the root, PATTERN_INVALID, PATH_NOT_FOUND naming an include pattern that matches
// nothing (or only what is excluded), INPUT_LIMIT_EXCEEDED when the tree has too many paths (path.h). Requires a valid
// manifest.
absl::StatusOr<Selected> Select(const Manifest& manifest, const Selection& selection);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SELECTION_H_
