#ifndef SCONCE_STORAGE_FORMAT_PATH_H_
#define SCONCE_STORAGE_FORMAT_PATH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/format/manifest.h"

// Names of places in a checkpoint's tree: JSON Pointers (RFC 6901).
//
// "" is the root; each level adds "/" and a segment: the position in a list or tuple, the key in a dict. In a segment
// "~" is written "~0" and "/" is "~1". A str key is written as it is and an int key in decimal; where one dict has the
// int 0 and the str "0", the str is written "~s0". A key of another type (and a str that is no valid Unicode) is "~k"
// and its Python repr, escaped likewise: "~kTrue", "~k(1, 'a')". Where two such keys print alike (two NaN, or long
// ones, cut at 512 bytes) they share a path, and it leads to the first.
//
// Lists, tuples, dicts (all three kinds) are what a path goes through. Everything else is one place: a Parameter, a
// sparse tensor, a set or an array has no paths below it, nor has the __dict__ of an OrderedDict.
namespace sconce::format {

// What a walk over paths refuses to exceed, since sharing lets a small manifest name a great many of them.
inline constexpr int64_t kMaxPaths = 1'000'000;
inline constexpr size_t kMaxPathBytes = size_t{64} << 10;          // one path
inline constexpr int64_t kMaxPathBytesInAll = int64_t{512} << 20;  // all paths of a walk together

// True for the kinds that paths go through.
bool HasPathsBelow(NodeKind kind);

// What a step of WalkTree should do next.
enum class Walk { kDescend, kSkipChildren, kStop };

// Callbacks of WalkTree. The path is valid during the call only.
class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;
  virtual Walk Enter(absl::string_view path, NodeIndex node) = 0;
  // After the children of a node that was descended into. (Not called for kinds without paths below them.)
  virtual void Leave(absl::string_view path, NodeIndex node) = 0;
};

// Walks the tree below `root` (pre-order, in insertion order; what is shared is visited under each of its paths). Paths
// start at `root`, which is "". INPUT_LIMIT_EXCEEDED at the limits above. Requires a valid manifest.
absl::Status WalkTree(const Manifest& manifest, NodeIndex root, TreeVisitor& visitor);

// The same for one callback, from the manifest's root; returning false stops early (and is OK).
absl::Status ForEachPath(const Manifest& manifest,
                         absl::FunctionRef<bool(absl::string_view path, NodeIndex node)> visit);

// The node at `path`. PATH_INVALID for one that is not "" and does not start with "/" or has a bad "~"; PATH_NOT_FOUND
// naming the longest part of it that exists and some of the keys there. Requires a valid manifest.
absl::StatusOr<NodeIndex> FindPath(const Manifest& manifest, absl::string_view path);

// The segments of a container's children as they appear in paths, each with the child's node: a kDict's keys with their
// values. `visit` returning false stops. Requires HasPathsBelow(kind of `container`).
void ForEachChild(const Manifest& manifest, NodeIndex container,
                  absl::FunctionRef<bool(absl::string_view segment, NodeIndex child)> visit);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PATH_H_
