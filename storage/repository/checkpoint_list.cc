#include "storage/repository/checkpoint_list.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/list_plan.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/lookup.h"
#include "storage/repository/version_source.h"

namespace sconce::repository {
namespace {

// Where a list by value has the version; nullopt where it does not have it.
std::optional<uint64_t> OrderValue(const Checkpoint& checkpoint, const CheckpointOrder& order) {
  switch (order.field) {
    case FilterField::kEpoch:
      return checkpoint.epoch ? std::optional(catalog::OrderOfNumber(*checkpoint.epoch)) : std::nullopt;
    case FilterField::kTrainStep:
      return checkpoint.step ? std::optional(catalog::OrderOfNumber(*checkpoint.step)) : std::nullopt;
    case FilterField::kCreateTime:
      return catalog::OrderOfNumber(ToNanos(checkpoint.create_time));
    case FilterField::kMetric: {
      const auto metric = checkpoint.metrics.find(order.metric);
      if (metric == checkpoint.metrics.end() || std::isnan(metric->second)) return std::nullopt;
      return catalog::OrderOfNumber(metric->second);
    }
    default:
      return 0;
  }
}

class Lister {
 public:
  Lister(const catalog::CatalogReader& reader, const records::RunRecord& run, const CheckpointQuery& query,
         const AliasMap& aliases, std::optional<ListPosition> start, size_t limit)
      : reader_(reader),
        run_name_(GetName(run)),
        run_uid_(run.uid()),
        filter_(query.filter),
        aliases_(aliases),
        plan_(PlanList(run.uid(), run.next_version() - 1, aliases, query)),
        limit_(limit),
        next_(start) {}

  absl::StatusOr<Page<Checkpoint>> Run() {
    // A first look at the sets is cheap; a closer one is worth it only where the stream gives little.
    constexpr size_t kFirstLook = 64;
    const size_t all_looks = std::max(kMaxLooks, limit_);
    SCONCE_ASSIGN_OR_RETURN(auto source, SmallSet(kFirstLook, kFirstLook));
    if (source == nullptr) {
      source = OpenStream(reader_, run_uid_, plan_, next_);
      const size_t some_looks = limit_ < kMaxLooks / 4 ? 2 * limit_ + kFirstLook : all_looks;
      SCONCE_RETURN_IF_ERROR(TakeFrom(*source, plan_.sets.empty() ? all_looks : some_looks));
      if (Ended()) return std::move(page_);
      SCONCE_ASSIGN_OR_RETURN(auto set, SmallSet(8 * kFirstLook, ByVersion() ? kMaxSetKeys : kMaxLooks));
      source = set != nullptr ? std::move(set) : OpenStream(reader_, run_uid_, plan_, next_);
    }
    SCONCE_RETURN_IF_ERROR(TakeFrom(*source, all_looks));
    if (next_) page_.next = FormatPosition(*next_, plan_.order);
    return std::move(page_);
  }

 private:
  bool ByVersion() const { return plan_.order.field == FilterField::kVersion; }
  bool Full() const { return page_.items.size() == limit_; }
  // After TakeFrom: nothing is left to do. Sets the page's `next`.
  bool Ended() {
    if (next_ && Full()) page_.next = FormatPosition(*next_, plan_.order);
    return !next_ || Full();
  }

  // Fills the page until it is full or `looks` versions were looked at in this call; next_ is then where to go on,
  // nullopt at the end.
  absl::Status TakeFrom(VersionSource& source, size_t looks) {
    next_.reset();
    while (!Full() && looks_ < looks) {
      const size_t wanted = std::min(limit_ - page_.items.size(), looks - looks_);
      SCONCE_ASSIGN_OR_RETURN(std::vector<ListEntry> entries, source.Take(wanted));
      if (entries.empty()) return absl::OkStatus();
      looks_ += entries.size();
      SCONCE_RETURN_IF_ERROR(ReadRecords(entries));
      for (const ListEntry& entry : entries) {
        SCONCE_ASSIGN_OR_RETURN(std::optional<Checkpoint> checkpoint, ToVersion(entry));
        if (checkpoint && Matches(filter_, *checkpoint)) page_.items.push_back(*std::move(checkpoint));
      }
    }
    SCONCE_ASSIGN_OR_RETURN(const std::vector<ListEntry> after, source.Take(1));
    if (!after.empty()) next_ = after.front().position;
    return absl::OkStatus();
  }

  absl::Status ReadRecords(std::vector<ListEntry>& entries) const {
    std::vector<std::string> keys;
    for (const ListEntry& entry : entries) {
      if (entry.record.empty()) keys.push_back(catalog::CheckpointKey(run_uid_, entry.position.version));
    }
    if (keys.empty()) return absl::OkStatus();
    SCONCE_ASSIGN_OR_RETURN(auto records, reader_.MultiGet(keys));
    auto record = records.begin();
    for (ListEntry& entry : entries) {
      if (!entry.record.empty()) continue;
      if (*record) entry.record = **std::move(record);
      ++record;
    }
    return absl::OkStatus();
  }

  // nullopt for one that a set has and the run does not.
  absl::StatusOr<std::optional<Checkpoint>> ToVersion(const ListEntry& entry) const {
    if (entry.record.empty()) return std::nullopt;
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::CheckpointRecord>(entry.record));
    Checkpoint checkpoint = ToCheckpoint(run_name_, record);
    const auto names = aliases_.find(record.version());
    if (names != aliases_.end()) checkpoint.aliases = names->second;
    return std::optional<Checkpoint>(std::move(checkpoint));
  }

  // What is left of the list by one of the plan's sets; null when none has at most `max_keys` keys. All are read in
  // step, first as far as `first_keys`, so that the cost is that of the smallest.
  absl::StatusOr<std::unique_ptr<VersionSource>> SmallSet(size_t first_keys, size_t max_keys) const {
    for (size_t keys = first_keys;; keys = std::min(8 * keys, max_keys)) {
      for (const IndexSet& set : plan_.sets) {
        SCONCE_ASSIGN_OR_RETURN(const auto versions, VersionsOf(set, keys));
        if (versions) return Sorted(*versions);
      }
      if (keys == max_keys) return nullptr;
    }
  }

  // Of what is left to list; nullopt when the set has more than `max_keys` keys.
  absl::StatusOr<std::optional<std::vector<int64_t>>> VersionsOf(const IndexSet& set, size_t max_keys) const {
    std::vector<int64_t> versions = set.versions;
    size_t keys = versions.size();
    if (keys > max_keys) return std::nullopt;
    for (const IndexRange& range : set.ranges) {
      if (range.begin >= range.end) continue;
      SCONCE_RETURN_IF_ERROR(reader_.Scan(range.begin, range.end, false, [&](absl::string_view key, absl::string_view) {
        versions.push_back(catalog::VersionOfIndexKey(key));
        return ++keys <= max_keys;
      }));
      if (keys > max_keys) return std::nullopt;
    }
    return std::optional<std::vector<int64_t>>(std::move(versions));
  }

  absl::StatusOr<std::unique_ptr<VersionSource>> Sorted(const std::vector<int64_t>& versions) const {
    std::vector<ListEntry> entries;
    for (const int64_t version : versions) {
      if (version < plan_.first_version || version > plan_.last_version) continue;
      entries.push_back({{0, version}, ""});
    }
    if (!ByVersion()) SCONCE_RETURN_IF_ERROR(Place(entries));
    const auto before = [&](const ListEntry& a, const ListEntry& b) {
      return ComesBefore(a.position, b.position, plan_.order);
    };
    std::sort(entries.begin(), entries.end(), before);
    entries.erase(std::unique(entries.begin(), entries.end(),
                              [](const ListEntry& a, const ListEntry& b) { return a.position == b.position; }),
                  entries.end());
    if (next_) {
      entries.erase(entries.begin(), std::lower_bound(entries.begin(), entries.end(), ListEntry{*next_, ""}, before));
    }
    return ServeEntries(std::move(entries));
  }

  // Finds by their records where the versions stand; drops those that do not.
  absl::Status Place(std::vector<ListEntry>& entries) const {
    SCONCE_RETURN_IF_ERROR(ReadRecords(entries));
    std::vector<ListEntry> placed;
    for (ListEntry& entry : entries) {
      SCONCE_ASSIGN_OR_RETURN(const auto checkpoint, ToVersion(entry));
      if (!checkpoint) continue;
      const std::optional<uint64_t> value = OrderValue(*checkpoint, plan_.order);
      if (!value) continue;
      entry.position.value = *value;
      placed.push_back(std::move(entry));
    }
    entries = std::move(placed);
    return absl::OkStatus();
  }

  const catalog::CatalogReader& reader_;
  const RunName run_name_;
  const uint64_t run_uid_;
  const FilterNode& filter_;
  const AliasMap& aliases_;
  const ListPlan plan_;
  const size_t limit_;
  std::optional<ListPosition> next_;
  size_t looks_ = 0;
  Page<Checkpoint> page_;
};

}  // namespace

absl::StatusOr<Page<Checkpoint>> ListByQuery(const catalog::CatalogReader& reader, const records::RunRecord& run,
                                             const CheckpointQuery& query, const std::string& start, int64_t limit) {
  std::optional<ListPosition> position;
  if (!start.empty()) {
    position = ParsePosition(start, query.order);
    if (!position) return BadPageStart(start);
  }
  SCONCE_ASSIGN_OR_RETURN(const AliasMap aliases, AliasesByVersion(reader, run.uid()));
  return Lister(reader, run, query, aliases, position, static_cast<size_t>(limit)).Run();
}

}  // namespace sconce::repository
