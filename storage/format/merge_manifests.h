#ifndef SCONCE_STORAGE_FORMAT_MERGE_MANIFESTS_H_
#define SCONCE_STORAGE_FORMAT_MERGE_MANIFESTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"

namespace sconce::format {

struct MergedManifest {
  Manifest manifest;
  // [part][storage]: the storage of `manifest` that this storage of that part became. All of them are there, and no two
  // are one: first part 0's in their order, then part 1's, and so on.
  std::vector<std::vector<StorageIndex>> storage_of;
};

// Unites what several writers pushed as parts of one checkpoint, each with a manifest of its own, into the manifest of
// the whole. Pure; the parts' order decides the order of keys and storages, nothing else.
//
//  * Dicts at the same path are united, and what is in them likewise: the keys of the first part in their order, then
//    those that are new in the next. They must be of one type: a dict and an OrderedDict are not united, Counters are.
//    Two keys are one where they are in Python (1 and True); it is then written as in the first part.
//  * The __dict__ of OrderedDicts (`_metadata`) is united too, and there several parts may hold the same scalar, tuple
//    or list of these, as long as they agree: every rank writes the versions of its modules.
//  * Sharded tensors at the same path, of one global shape and one dtype, become one with the shards of all.
//  * Anything else at one path in two parts is an overlap, even if equal: lists, scalars, tensors, sets. So one rank
//    writes the epoch.
//  * When there are several parts, the shards of every sharded tensor must be the whole of it, each element once.
//  * A single part is taken as it is, whatever its shards are.
//  * What a part shares (tied tensors, views of one storage) stays shared. Nothing is shared between parts: each has
//  its
//    own storages, so weights tied across ranks are to be pushed by one of them.
//
// Errors name paths, parts (by their place in `parts`) and index ranges, several at once:
//  * PARTS_OVERLAP: two parts have the same place, or the same elements of a sharded tensor, or things of different
//  kind
//    where only the same kind can be united.
//  * PARTS_INCOMPLETE: elements of a sharded tensor are in no part.
//  * INPUT_LIMIT_EXCEEDED: the result is beyond the limits of Validate, or sharing within the parts would let it become
//    many times larger than they are together.
//  * MANIFEST_INVALID: some parts have a chunk table and others lack theirs.
// ARGUMENT_INVALID for no part at all. Requires valid manifests; the result is valid, and derived if a part is. Takes
// time linear in the size of the parts, but for irregular shards (shard_cover.h).
absl::StatusOr<MergedManifest> MergeManifests(absl::Span<const Manifest* const> parts);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_MERGE_MANIFESTS_H_
