#include "storage/repository/version_source.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"

namespace sconce::repository {
namespace {

// One range of keys, as entries in the list's order.
class RangeSource {
 public:
  virtual ~RangeSource() = default;

  // Reads on until there is an entry; null at the end. `n`: how many are wanted.
  absl::StatusOr<const ListEntry*> Peek(size_t n) {
    while (entries_.empty() && !done_) SCONCE_RETURN_IF_ERROR(Fill(n));
    return entries_.empty() ? nullptr : &entries_.front();
  }
  ListEntry Pop() {
    ListEntry entry = std::move(entries_.front());
    entries_.pop_front();
    return entry;
  }

 protected:
  // Adds about `n` entries, or sets done_.
  virtual absl::Status Fill(size_t n) = 0;

  std::deque<ListEntry> entries_;
  bool done_ = false;
};

// Keys that stand in the list's order, or its reverse.
class StraightRange : public RangeSource {
 public:
  enum class Keys { kRecords, kVersionIndex, kValueIndex };
  StraightRange(const catalog::CatalogReader& reader, std::string begin, std::string end, bool reverse, Keys keys)
      : reader_(reader), begin_(std::move(begin)), end_(std::move(end)), reverse_(reverse), keys_(keys) {}

 protected:
  absl::Status Fill(size_t n) override {
    size_t seen = 0;
    std::string last;
    if (begin_ < end_) {
      SCONCE_RETURN_IF_ERROR(reader_.Scan(begin_, end_, reverse_, [&](absl::string_view key, absl::string_view value) {
        entries_.push_back(Read(key, value));
        last = std::string(key);
        return ++seen < n;
      }));
    }
    done_ = seen < n;
    if (reverse_) {
      end_ = std::move(last);
    } else {
      begin_ = std::move(last) + '\0';
    }
    return absl::OkStatus();
  }

 private:
  ListEntry Read(absl::string_view key, absl::string_view value) const {
    if (keys_ == Keys::kRecords) {
      const auto owner = catalog::Owner::Decode(key);  // the same bytes
      return {{0, owner ? static_cast<int64_t>(owner->number) : 0}, std::string(value)};
    }
    const uint64_t order = keys_ == Keys::kValueIndex ? catalog::OrderOfIndexKey(key) : 0;
    return {{order, catalog::VersionOfIndexKey(key)}, ""};
  }

  const catalog::CatalogReader& reader_;
  std::string begin_, end_;
  const bool reverse_;
  const Keys keys_;
};

// Keys of a value index by descending value, and of equal values the newer version first, which is how they stand: so
// the range is read backwards, and each group of equal values turned round again.
class DescendingRange : public RangeSource {
 public:
  DescendingRange(const catalog::CatalogReader& reader, const IndexRange& range,
                  const std::optional<ListPosition>& start)
      : reader_(reader), prefix_(range.prefix), begin_(range.begin), end_(range.end) {
    if (!start) return;
    const std::string group = catalog::OrderPrefix(prefix_, start->value);
    group_.emplace(reader_, std::max(begin_, catalog::IndexKey(group, start->version)),
                   std::min(end_, catalog::PrefixEnd(group)), false, StraightRange::Keys::kValueIndex);
    end_ = std::min(end_, group);
  }

 protected:
  absl::Status Fill(size_t n) override {
    if (group_) {
      SCONCE_ASSIGN_OR_RETURN(const ListEntry* entry, group_->Peek(n));
      if (entry != nullptr) {
        entries_.push_back(group_->Pop());
        return absl::OkStatus();
      }
      group_.reset();
    }
    std::vector<ListEntry> backwards;
    if (begin_ < end_) {
      SCONCE_RETURN_IF_ERROR(reader_.Scan(begin_, end_, true, [&](absl::string_view key, absl::string_view) {
        backwards.push_back({{catalog::OrderOfIndexKey(key), catalog::VersionOfIndexKey(key)}, ""});
        return backwards.size() < n;
      }));
    }
    done_ = backwards.size() < n;
    if (!done_) LeaveLastGroup(backwards);
    for (auto group = backwards.begin(); group != backwards.end();) {
      const auto next = std::find_if(group, backwards.end(), [&](const ListEntry& entry) {
        return entry.position.value != group->position.value;
      });
      std::move(std::make_reverse_iterator(next), std::make_reverse_iterator(group), std::back_inserter(entries_));
      group = next;
    }
    return absl::OkStatus();
  }

 private:
  // The last group may go on where the scan stopped: it is for the next one, or read forwards when it is all there is.
  void LeaveLastGroup(std::vector<ListEntry>& backwards) {
    const uint64_t value = backwards.back().position.value;
    const std::string group = catalog::OrderPrefix(prefix_, value);
    while (!backwards.empty() && backwards.back().position.value == value) backwards.pop_back();
    if (backwards.empty()) {
      group_.emplace(reader_, group, catalog::PrefixEnd(group), false, StraightRange::Keys::kValueIndex);
      end_ = group;
    } else {
      end_ = catalog::PrefixEnd(group);
    }
  }

  const catalog::CatalogReader& reader_;
  const std::string prefix_, begin_;
  std::string end_;
  std::optional<StraightRange> group_;
};

// Several ranges, merged.
class MergedSource final : public VersionSource {
 public:
  MergedSource(CheckpointOrder order, std::vector<std::unique_ptr<RangeSource>> ranges)
      : order_(std::move(order)), ranges_(std::move(ranges)) {}

  absl::StatusOr<std::vector<ListEntry>> Take(size_t n) override {
    std::vector<ListEntry> taken;
    while (taken.size() < n) {
      RangeSource* first = nullptr;
      const ListEntry* entry = nullptr;
      for (const auto& range : ranges_) {
        SCONCE_ASSIGN_OR_RETURN(const ListEntry* candidate, range->Peek(n - taken.size() + 1));
        if (candidate == nullptr) continue;
        if (entry != nullptr && !ComesBefore(candidate->position, entry->position, order_)) continue;
        first = range.get();
        entry = candidate;
      }
      if (first == nullptr) break;
      ListEntry next = first->Pop();
      if (last_ && *last_ == next.position) continue;
      last_ = next.position;
      taken.push_back(std::move(next));
    }
    return taken;
  }

 private:
  const CheckpointOrder order_;
  const std::vector<std::unique_ptr<RangeSource>> ranges_;
  std::optional<ListPosition> last_;
};

class EntrySource final : public VersionSource {
 public:
  explicit EntrySource(std::vector<ListEntry> entries) : entries_(std::move(entries)) {}

  absl::StatusOr<std::vector<ListEntry>> Take(size_t n) override {
    const size_t end = std::min(entries_.size(), next_ + n);
    std::vector<ListEntry> taken(std::make_move_iterator(entries_.begin() + static_cast<ptrdiff_t>(next_)),
                                 std::make_move_iterator(entries_.begin() + static_cast<ptrdiff_t>(end)));
    next_ = end;
    return taken;
  }

 private:
  std::vector<ListEntry> entries_;
  size_t next_ = 0;
};

// By version, from the records or from index ranges of one value each.
std::vector<std::unique_ptr<RangeSource>> VersionRanges(const catalog::CatalogReader& reader, uint64_t run_uid,
                                                        const ListPlan& plan,
                                                        const std::optional<ListPosition>& start) {
  const bool descending = plan.order.descending;
  int64_t oldest = plan.first_version, newest = plan.last_version;
  if (start && descending) newest = std::min(newest, start->version);
  if (start && !descending) oldest = std::max(oldest, start->version);
  std::vector<std::unique_ptr<RangeSource>> ranges;
  if (oldest > newest) return ranges;
  if (plan.stream.ranges.empty()) {
    ranges.push_back(std::make_unique<StraightRange>(reader, catalog::CheckpointKey(run_uid, oldest),
                                                     catalog::CheckpointKey(run_uid, newest) + '\0', descending,
                                                     StraightRange::Keys::kRecords));
  }
  for (const IndexRange& range : plan.stream.ranges) {
    ranges.push_back(std::make_unique<StraightRange>(reader, catalog::IndexKey(range.begin, newest),
                                                     catalog::IndexKey(range.begin, oldest) + '\0', !descending,
                                                     StraightRange::Keys::kVersionIndex));
  }
  return ranges;
}

std::vector<std::unique_ptr<RangeSource>> ValueRanges(const catalog::CatalogReader& reader, const ListPlan& plan,
                                                      const std::optional<ListPosition>& start) {
  std::vector<std::unique_ptr<RangeSource>> ranges;
  for (const IndexRange& range : plan.stream.ranges) {
    if (plan.order.descending) {
      ranges.push_back(std::make_unique<DescendingRange>(reader, range, start));
      continue;
    }
    std::string begin = range.begin;
    if (start) {
      begin = std::max(begin, catalog::IndexKey(catalog::OrderPrefix(range.prefix, start->value), start->version));
    }
    ranges.push_back(
        std::make_unique<StraightRange>(reader, std::move(begin), range.end, false, StraightRange::Keys::kValueIndex));
  }
  return ranges;
}

}  // namespace

bool ComesBefore(const ListPosition& a, const ListPosition& b, const CheckpointOrder& order) {
  if (order.field == FilterField::kVersion) return order.descending ? a.version > b.version : a.version < b.version;
  if (a.value != b.value) return order.descending ? a.value > b.value : a.value < b.value;
  return a.version > b.version;
}

std::string FormatPosition(const ListPosition& position, const CheckpointOrder& order) {
  if (order.field == FilterField::kVersion) return absl::StrCat(position.version);
  return absl::StrCat(position.value, ".", position.version);
}

std::optional<ListPosition> ParsePosition(const std::string& text, const CheckpointOrder& order) {
  ListPosition position;
  std::vector<std::string> parts = absl::StrSplit(text, '.');
  if (parts.size() != (order.field == FilterField::kVersion ? 1 : 2)) return std::nullopt;
  if (!absl::SimpleAtoi(parts.back(), &position.version) || position.version <= 0 || position.version == INT64_MAX) {
    return std::nullopt;
  }
  if (parts.size() == 2 && !absl::SimpleAtoi(parts.front(), &position.value)) return std::nullopt;
  return position;
}

std::unique_ptr<VersionSource> OpenStream(const catalog::CatalogReader& reader, uint64_t run_uid, const ListPlan& plan,
                                          const std::optional<ListPosition>& start) {
  return std::make_unique<MergedSource>(plan.order, plan.order.field == FilterField::kVersion
                                                        ? VersionRanges(reader, run_uid, plan, start)
                                                        : ValueRanges(reader, plan, start));
}

std::unique_ptr<VersionSource> ServeEntries(std::vector<ListEntry> entries) {
  return std::make_unique<EntrySource>(std::move(entries));
}

}  // namespace sconce::repository
