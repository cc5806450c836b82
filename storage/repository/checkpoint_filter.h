#ifndef SCONCE_STORAGE_REPOSITORY_CHECKPOINT_FILTER_H_
#define SCONCE_STORAGE_REPOSITORY_CHECKPOINT_FILTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/repository/types.h"

// The filter and the order of a list of versions: text to a small tree, and the tree against a version. Pure. The
// grammar and what it means is in the comment of ListCheckpointsRequest (checkpoint_service.proto).
namespace sconce::repository {

enum class FilterField {
  kVersion,
  kEpoch,
  kTrainStep,
  kMetric,
  kLabel,
  kCreateTime,
  kState,
  kKind,
  kPinned,
  kAlias,
};

enum class Comparator { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kHas };

// One comparison. The value is in the member of the field's type; with kHas there is none.
struct Comparison {
  FilterField field = FilterField::kVersion;
  std::string name;  // of the metric, label or alias
  Comparator comparator = Comparator::kEqual;
  int64_t integer = 0;  // version, epoch, step; create_time in nanoseconds since 1970; state, kind, pinned: 1 for
                        // quarantined, opaque, pinned
  double number = 0;    // metric; never NaN
  std::string text;     // label
};

struct FilterNode {
  enum class Kind { kAnd, kOr, kNot, kComparison };
  Kind kind = Kind::kComparison;
  std::vector<FilterNode> children;  // of kNot: one
  Comparison comparison;
};

inline constexpr size_t kMaxFilterBytes = 4096;
inline constexpr int kMaxFilterComparisons = 100;
inline constexpr int kMaxFilterDepth = 32;

// FILTER_INVALID, with the position (metadata "position", from 1) and what is allowed there. Empty and blank texts are
// an empty kAnd, which takes everything.
absl::StatusOr<FilterNode> ParseCheckpointFilter(absl::string_view text);

// `checkpoint` with its aliases.
bool Matches(const FilterNode& filter, const Checkpoint& checkpoint);

struct CheckpointOrder {
  FilterField field = FilterField::kVersion;  // or kCreateTime, kEpoch, kStep, kMetric
  std::string metric;
  bool descending = true;
};

// ARGUMENT_INVALID. Empty and blank texts are the default, "version desc".
absl::StatusOr<CheckpointOrder> ParseCheckpointOrder(absl::string_view text);

// What a list of versions is asked for.
struct CheckpointQuery {
  FilterNode filter{FilterNode::Kind::kAnd, {}, {}};
  CheckpointOrder order;
};
absl::StatusOr<CheckpointQuery> ParseCheckpointQuery(absl::string_view filter, absl::string_view order_by);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHECKPOINT_FILTER_H_
