#include "storage/repository/checkpoint_filter.h"

#include <algorithm>

#include "base/status_macros.h"

namespace sconce::repository {
namespace {

template <typename T>
bool Compare(const T& a, Comparator comparator, const T& b) {
  switch (comparator) {
    case Comparator::kEqual:
      return a == b;
    case Comparator::kNotEqual:
      return a != b;
    case Comparator::kLess:
      return a < b;
    case Comparator::kLessOrEqual:
      return a <= b;
    case Comparator::kGreater:
      return a > b;
    case Comparator::kGreaterOrEqual:
      return a >= b;
    case Comparator::kHas:
      return true;
  }
  return false;
}

bool Holds(const Comparison& c, const Checkpoint& checkpoint) {
  const auto number = [&](int64_t value) { return Compare(value, c.comparator, c.integer); };
  switch (c.field) {
    case FilterField::kVersion:
      return number(checkpoint.version);
    case FilterField::kEpoch:
      return checkpoint.epoch && number(*checkpoint.epoch);
    case FilterField::kTrainStep:
      return checkpoint.step && number(*checkpoint.step);
    case FilterField::kCreateTime:
      return number(absl::ToUnixNanos(checkpoint.create_time));
    case FilterField::kState:
      return number(checkpoint.state == CheckpointState::kQuarantined ? 1 : 0);
    case FilterField::kKind:
      return number(checkpoint.kind == CheckpointKind::kOpaque ? 1 : 0);
    case FilterField::kPinned:
      return number(checkpoint.pinned ? 1 : 0);
    case FilterField::kMetric: {
      const auto metric = checkpoint.metrics.find(c.name);
      return metric != checkpoint.metrics.end() && Compare(metric->second, c.comparator, c.number);
    }
    case FilterField::kLabel: {
      const auto label = checkpoint.labels.find(c.name);
      return label != checkpoint.labels.end() && Compare(label->second, c.comparator, c.text);
    }
    case FilterField::kAlias:
      return std::find(checkpoint.aliases.begin(), checkpoint.aliases.end(), c.name) != checkpoint.aliases.end();
  }
  return false;
}

}  // namespace

bool Matches(const FilterNode& filter, const Checkpoint& checkpoint) {
  const auto matches = [&](const FilterNode& child) { return Matches(child, checkpoint); };
  switch (filter.kind) {
    case FilterNode::Kind::kAnd:
      return std::all_of(filter.children.begin(), filter.children.end(), matches);
    case FilterNode::Kind::kOr:
      return std::any_of(filter.children.begin(), filter.children.end(), matches);
    case FilterNode::Kind::kNot:
      return !matches(filter.children.front());
    case FilterNode::Kind::kComparison:
      return Holds(filter.comparison, checkpoint);
  }
  return false;
}

absl::StatusOr<CheckpointQuery> ParseCheckpointQuery(absl::string_view filter, absl::string_view order_by) {
  CheckpointQuery query;
  SCONCE_ASSIGN_OR_RETURN(query.filter, ParseCheckpointFilter(filter));
  SCONCE_ASSIGN_OR_RETURN(query.order, ParseCheckpointOrder(order_by));
  return query;
}

}  // namespace sconce::repository
