#ifndef SCONCE_STORAGE_FORMAT_VALUE_KEY_H_
#define SCONCE_STORAGE_FORMAT_VALUE_KEY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "storage/format/manifest.h"

// The order of set elements: each value as bytes that do not depend on how nodes are numbered.
namespace sconce::format {

// A leaf that is a value (see NodeKind), or a tuple, which is one when its elements are.
bool CanBeValue(NodeKind kind);
// Whether it is an object that is a value: of a class that compares what it holds, without arguments, and with a state
// that is a list. The elements of that list must be values, too.
bool CanBeValueObject(const std::vector<Node>& nodes, const Node& node);

// Appends the value's key: its record as in the encoding, but with the children's keys in the place of references.
// False when `node` is not a value or `out` would become longer than `max_bytes`; `out` is then of no use.
bool AppendValueKey(const std::vector<Node>& nodes, NodeIndex node, size_t max_bytes, std::string& out);

// Appends bytes that are the same for two values exactly when a dict takes them for one key: as AppendValueKey, but
// True, 1, 1.0 and (1+0j) are one. (Inside a tuple they are still told apart.) A NaN equals nothing, itself neither:
// the caller has to tell one IsNanKey from the next. False as AppendValueKey.
bool AppendDictKey(const std::vector<Node>& nodes, NodeIndex node, size_t max_bytes, std::string& out);
bool IsNanKey(const Node& node);

// Sorts the elements of a set as a kSet node wants them, dropping equal ones. FILE_UNSUPPORTED for an element that is
// not a value; INPUT_LIMIT_EXCEEDED when tuples of tuples expand beyond all reason.
absl::Status SortSetElements(const std::vector<Node>& nodes, std::vector<NodeIndex>& elements);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_VALUE_KEY_H_
