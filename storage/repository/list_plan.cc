#include "storage/repository/list_plan.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

#include "storage/catalog/keys.h"

namespace sconce::repository {
namespace {

using catalog::NumberField;
using catalog::PrefixEnd;

// More are not worth it: each costs a look in every call.
constexpr size_t kMaxSets = 8, kMaxRanges = 32;
// A range of versions that is listed in another order.
constexpr int64_t kMaxVersionRange = 500;

// The keys under `prefix` whose next part compares with `value`, the encoded value; nullopt for kNotEqual.
std::optional<IndexRange> Range(const std::string& prefix, Comparator comparator, const std::string& value) {
  switch (comparator) {
    case Comparator::kEqual:
      return IndexRange{prefix, value, PrefixEnd(value)};
    case Comparator::kLess:
      return IndexRange{prefix, prefix, value};
    case Comparator::kLessOrEqual:
      return IndexRange{prefix, prefix, PrefixEnd(value)};
    case Comparator::kGreater:
      return IndexRange{prefix, PrefixEnd(value), PrefixEnd(prefix)};
    case Comparator::kGreaterOrEqual:
      return IndexRange{prefix, value, PrefixEnd(prefix)};
    case Comparator::kHas:
      return IndexRange{prefix, prefix, PrefixEnd(prefix)};
    case Comparator::kNotEqual:
      break;
  }
  return std::nullopt;
}

std::optional<NumberField> NumberOf(FilterField field) {
  switch (field) {
    case FilterField::kEpoch:
      return NumberField::kEpoch;
    case FilterField::kTrainStep:
      return NumberField::kStep;
    case FilterField::kCreateTime:
      return NumberField::kCreateTime;
    case FilterField::kPinned:
      return NumberField::kPinned;
    case FilterField::kKind:
      return NumberField::kOpaque;
    case FilterField::kState:
      return NumberField::kQuarantined;
    default:
      return std::nullopt;
  }
}

class Planner {
 public:
  Planner(uint64_t run_uid, int64_t last_version, const AliasMap& aliases, const CheckpointQuery& query)
      : run_uid_(run_uid), aliases_(aliases), query_(query) {
    plan_.order = query.order;
    plan_.last_version = last_version;
  }

  ListPlan Plan() {
    AddConjuncts(query_.filter);
    if (query_.order.field == FilterField::kVersion) {
      StreamVersions();
    } else {
      StreamValues();
    }
    return std::move(plan_);
  }

 private:
  // Every conjunct of the filter's top narrows what is looked at.
  void AddConjuncts(const FilterNode& node) {
    if (node.kind == FilterNode::Kind::kAnd) {
      for (const FilterNode& child : node.children) AddConjuncts(child);
      return;
    }
    if (node.kind == FilterNode::Kind::kComparison) {
      conjuncts_.push_back(&node.comparison);
      if (node.comparison.field == FilterField::kVersion) return BoundVersions(node.comparison);
      if (IsOfOrder(node.comparison)) return;  // narrows the stream instead
    }
    IndexSet set;
    if (!AddTo(node, set) || set.ranges.size() > kMaxRanges) return;
    const Comparison* alone = node.kind == FilterNode::Kind::kComparison ? &node.comparison : nullptr;
    for (size_t i = 0; alone != nullptr && i < plan_.sets.size(); ++i) {
      const Comparison* other = alone_[i];
      if (other == nullptr || other->field != alone->field || other->name != alone->name) continue;
      return Intersect(set, plan_.sets[i]);
    }
    if (plan_.sets.size() == kMaxSets) return;
    plan_.sets.push_back(std::move(set));
    alone_.push_back(alone);
  }

  static void Narrow(IndexRange& range, const IndexRange& by) {
    range.begin = std::max(range.begin, by.begin);
    range.end = std::min(range.end, by.end);
  }

  // `set` and `into` have ranges of the same indexes.
  static void Intersect(const IndexSet& set, IndexSet& into) {
    into.by_version = into.by_version || set.by_version;
    for (size_t i = 0; i < into.ranges.size(); ++i) Narrow(into.ranges[i], set.ranges[i]);
    if (std::any_of(into.ranges.begin(), into.ranges.end(), [](const IndexRange& r) { return r.begin < r.end; }))
      return;
    into.ranges.clear();  // nothing is like that
    into.by_version = false;
  }

  void BoundVersions(const Comparison& c) {
    const bool equal = c.comparator == Comparator::kEqual;
    if (equal || c.comparator == Comparator::kGreaterOrEqual) AtLeast(c.integer);
    if (equal || c.comparator == Comparator::kLessOrEqual) AtMost(c.integer);
    if (c.comparator == Comparator::kGreater) AtLeast(c.integer == INT64_MAX ? c.integer : c.integer + 1);
    if (c.comparator == Comparator::kLess) AtMost(c.integer == INT64_MIN ? c.integer : c.integer - 1);
  }
  void AtLeast(int64_t version) { plan_.first_version = std::max(plan_.first_version, version); }
  void AtMost(int64_t version) { plan_.last_version = std::clamp(version, int64_t{0}, plan_.last_version); }
  bool IsOfOrder(const Comparison& c) const { return c.field == query_.order.field && c.name == query_.order.metric; }

  // Adds what satisfies the node: a comparison, or several joined by OR. False when no index has it.
  bool AddTo(const FilterNode& node, IndexSet& set) const {
    if (node.kind == FilterNode::Kind::kOr) {
      return std::all_of(node.children.begin(), node.children.end(),
                         [&](const FilterNode& child) { return AddTo(child, set); });
    }
    if (node.kind != FilterNode::Kind::kComparison) return false;
    const Comparison& c = node.comparison;
    if (c.field == FilterField::kVersion) {
      if (c.comparator != Comparator::kEqual) return false;
      set.versions.push_back(c.integer);
      set.by_version = false;
      return true;
    }
    if (c.field == FilterField::kAlias) {
      set.by_version = false;
      for (const auto& [version, names] : aliases_) {
        if (std::find(names.begin(), names.end(), c.name) != names.end()) set.versions.push_back(version);
      }
      return true;
    }
    std::vector<IndexRange> ranges = RangesOf(c);
    if (ranges.empty()) return false;
    std::move(ranges.begin(), ranges.end(), std::back_inserter(set.ranges));
    if (c.comparator != Comparator::kEqual && !IsChoice(c.field)) set.by_version = false;
    return true;
  }

  static bool IsChoice(FilterField field) {
    return field == FilterField::kState || field == FilterField::kKind || field == FilterField::kPinned;
  }

  // Where the index has what satisfies the comparison; nowhere when it does not help.
  std::vector<IndexRange> RangesOf(const Comparison& c) const {
    std::vector<IndexRange> ranges;
    const auto add = [&](const std::string& prefix, const std::string& value) {
      if (auto range = Range(prefix, c.comparator, value)) ranges.push_back(*std::move(range));
    };
    if (c.field == FilterField::kMetric) {
      add(catalog::MetricPrefix(run_uid_, c.name), catalog::MetricPrefix(run_uid_, c.name, c.number));
      add(catalog::LoserMetricPrefix(run_uid_, c.name), catalog::LoserMetricPrefix(run_uid_, c.name, c.number));
    } else if (c.field == FilterField::kLabel) {
      add(catalog::LabelPrefix(run_uid_, c.name), catalog::LabelPrefix(run_uid_, c.name, c.text));
    } else if (IsChoice(c.field)) {
      // Only those that say yes are in the index.
      const bool yes = (c.comparator == Comparator::kEqual && c.integer == 1) ||
                       (c.comparator == Comparator::kNotEqual && c.integer == 0);
      const std::string prefix = catalog::NumberPrefix(run_uid_, *NumberOf(c.field), 1);
      if (yes) ranges.push_back({prefix, prefix, PrefixEnd(prefix)});
    } else if (const auto number = NumberOf(c.field)) {
      add(catalog::NumberPrefix(run_uid_, *number), catalog::NumberPrefix(run_uid_, *number, c.integer));
    }
    return ranges;
  }

  // In the order of versions: one of the sets where it has that order too, else the records.
  void StreamVersions() {
    for (auto set = plan_.sets.begin(); set != plan_.sets.end(); ++set) {
      if (!set->by_version) continue;
      plan_.stream = std::move(*set);
      plan_.sets.erase(set);
      return;
    }
  }

  // In the order of a value: its index, as far as conditions on the same value reach.
  void StreamValues() {
    Comparison all;
    all.field = query_.order.field;
    all.name = query_.order.metric;
    all.comparator = Comparator::kHas;
    if (all.field == FilterField::kMetric) {
      all.comparator = Comparator::kLessOrEqual;  // without NaN
      all.number = std::numeric_limits<double>::infinity();
    }
    plan_.stream.ranges = RangesOf(all);
    plan_.stream.by_version = false;
    for (const Comparison* c : conjuncts_) {
      if (!IsOfOrder(*c)) continue;
      const std::vector<IndexRange> narrower = RangesOf(*c);
      for (size_t i = 0; i < narrower.size(); ++i) Narrow(plan_.stream.ranges[i], narrower[i]);
    }
    if (plan_.last_version - plan_.first_version >= kMaxVersionRange) return;
    IndexSet few;
    for (int64_t v = plan_.first_version; v <= plan_.last_version; ++v) few.versions.push_back(v);
    plan_.sets.push_back(std::move(few));
  }

  const uint64_t run_uid_;
  const AliasMap& aliases_;
  const CheckpointQuery& query_;
  std::vector<const Comparison*> conjuncts_;
  std::vector<const Comparison*> alone_;  // by set: the comparison it is of; null for one of several
  ListPlan plan_;
};

}  // namespace

ListPlan PlanList(uint64_t run_uid, int64_t last_version, const AliasMap& aliases, const CheckpointQuery& query) {
  return Planner(run_uid, last_version, aliases, query).Plan();
}

}  // namespace sconce::repository
