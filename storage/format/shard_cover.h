#ifndef SCONCE_STORAGE_FORMAT_SHARD_COVER_H_
#define SCONCE_STORAGE_FORMAT_SHARD_COVER_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/format/manifest.h"

// Whether the shards of a tensor make up the whole of it, each element once.
namespace sconce::format {

// Elements `offset[d] <= i[d] < offset[d] + size[d]` in every dimension d.
struct Box {
  Dims offset;
  Dims size;
};
// "[0:2, 3:4]"; of a tensor without dimensions "[]".
std::string BoxText(const Box& box);

struct ShardOverlap {
  size_t first = 0;  // two shards, in the order they were given
  size_t second = 0;
  Box box;  // elements that both have, not necessarily all of them
};
struct ShardCover {
  std::vector<ShardOverlap> overlaps;  // at most one of each pair
  std::vector<Box> gaps;               // what no shard has; disjoint
};

// What is wrong with `shards` as a partition of a tensor of shape `global`: the first problems found, up to `max_found`
// of one sort; none at all exactly when each element is in exactly one shard. Empty shards are passed over. All boxes
// lie inside the tensor, with no negative numbers and the rank of `global`, which is at most kMaxRank.
//
// Takes time n log n for n shards that are cut along one dimension, or on a grid; up to n^2 for irregular ones, of
// which many are refused: INPUT_LIMIT_EXCEEDED.
absl::StatusOr<ShardCover> CoverOf(const Dims& global, const std::vector<Box>& shards, size_t max_found);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SHARD_COVER_H_
