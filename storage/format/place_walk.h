#ifndef SCONCE_STORAGE_FORMAT_PLACE_WALK_H_
#define SCONCE_STORAGE_FORMAT_PLACE_WALK_H_

#include <cstddef>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "storage/format/manifest.h"
#include "storage/format/pattern_set.h"

namespace sconce::format {

// Visits the nodes that `wanted` names, at each place of the tree (path.h) in tree order: with the place's path, and
// the first of `rules` that matches it or, without wildcards, is above it (PatternSet::kNoPattern when none does). A
// node that has no path of its own (a part of a sparse tensor, an attribute of an OrderedDict) belongs to the place it
// hangs on.
//
// `outcomes` has a number for each rule, the same for rules that come to the same and 0 for those that come to what
// happens without a rule. With rules every path is looked at, since any may match; without, what is shared is entered
// once. What has no path is visited once for each outcome, by whichever place comes first. So all of this takes time
// linear in paths x rules and nodes x outcomes.
//
// An error of `visit` ends the walk and is returned. INPUT_LIMIT_EXCEEDED as WalkTree. Requires a valid manifest.
absl::Status WalkPlaces(const Manifest& manifest, const PatternSet& rules, const std::vector<size_t>& outcomes,
                        absl::FunctionRef<bool(NodeIndex node)> wanted,
                        absl::FunctionRef<absl::Status(absl::string_view path, NodeIndex node, size_t rule)> visit);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PLACE_WALK_H_
