#include "storage/repository/best_rule.h"

#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {
namespace {

// The first key with the prefix in the given direction; those in `without` do not count.
absl::StatusOr<std::optional<catalog::MetricKeyFields>> FirstMetric(const catalog::CatalogReader& reader,
                                                                    const std::string& begin, const std::string& end,
                                                                    bool reverse,
                                                                    const std::set<std::string>& without = {}) {
  std::optional<catalog::MetricKeyFields> first;
  SCONCE_RETURN_IF_ERROR(reader.Scan(begin, end, reverse, [&](absl::string_view key, absl::string_view) {
    if (!without.empty() && without.count(std::string(key)) > 0) return true;
    first = catalog::ParseMetricKey(key);
    return false;
  }));
  return first;
}

absl::StatusOr<std::optional<catalog::MetricKeyFields>> BestMetric(const catalog::CatalogReader& reader,
                                                                   uint64_t run_uid, const BestRule& rule,
                                                                   const std::set<std::string>& without) {
  const std::string prefix = catalog::MetricPrefix(run_uid, rule.metric);
  const bool reverse = rule.goal == MetricGoal::kMaximize;
  SCONCE_ASSIGN_OR_RETURN(auto best, FirstMetric(reader, prefix, catalog::PrefixEnd(prefix), reverse, without));
  if (best && reverse) {  // among equal values newer ones come first, and the scan from the end met the oldest
    const std::string ties = catalog::MetricPrefix(run_uid, rule.metric, best->value);
    SCONCE_ASSIGN_OR_RETURN(best, FirstMetric(reader, ties, catalog::PrefixEnd(ties), false, without));
  }
  return best;
}

bool IsBetter(const catalog::MetricKeyFields& a, const catalog::MetricKeyFields& b, MetricGoal goal) {
  if (a.value == b.value) return a.version > b.version;
  return goal == MetricGoal::kMaximize ? a.value > b.value : a.value < b.value;
}

}  // namespace

absl::StatusOr<std::optional<Stored<records::CheckpointRecord>>> FindLatest(const catalog::CatalogReader& reader,
                                                                            const records::RunRecord& run) {
  SCONCE_ASSIGN_OR_RETURN(auto newest, ReadRecord<records::CheckpointRecord>(
                                           reader, catalog::CheckpointKey(run.uid(), run.next_version() - 1)));
  if (newest && !IsQuarantined(newest->record)) return newest;
  // Deleted, quarantined, or its push failed or is under way.
  const std::string prefix = catalog::CheckpointPrefix(run.uid());
  std::optional<Stored<records::CheckpointRecord>> latest;
  absl::Status parsed;
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), true, [&](absl::string_view key, absl::string_view value) {
        auto record = ParseRecord<records::CheckpointRecord>(value);
        parsed = record.status();
        if (!parsed.ok()) return false;
        if (IsQuarantined(*record)) return true;
        latest = Stored<records::CheckpointRecord>{std::string(key), std::string(value), *std::move(record)};
        return false;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return latest;
}

absl::StatusOr<int64_t> LatestVersion(const catalog::CatalogReader& reader, const records::RunRecord& run) {
  SCONCE_ASSIGN_OR_RETURN(const auto latest, FindLatest(reader, run));
  return latest ? latest->record.version() : 0;
}

absl::StatusOr<int64_t> BestVersion(const catalog::CatalogReader& reader, uint64_t run_uid, const BestRule& rule) {
  SCONCE_ASSIGN_OR_RETURN(const auto best, BestMetric(reader, run_uid, rule, {}));
  return best ? best->version : 0;
}

absl::StatusOr<int64_t> BestVersionAfter(const catalog::CatalogReader& reader, uint64_t run_uid, const BestRule& rule,
                                         const catalog::ChangeSet& change) {
  const std::string prefix = catalog::MetricPrefix(run_uid, rule.metric);
  std::set<std::string> without;
  for (const std::string& key : change.deletes) {
    if (absl::StartsWith(key, prefix)) without.insert(key);
  }
  std::optional<catalog::MetricKeyFields> added;
  for (const auto& put : change.puts) {
    if (!absl::StartsWith(put.first, prefix)) continue;
    without.erase(put.first);
    const auto fields = catalog::ParseMetricKey(put.first);
    if (fields && (!added || IsBetter(*fields, *added, rule.goal))) added = fields;
  }
  SCONCE_ASSIGN_OR_RETURN(const auto best, BestMetric(reader, run_uid, rule, without));
  if (best && (!added || IsBetter(*best, *added, rule.goal))) return best->version;
  return added ? added->version : 0;
}

absl::Status LogBestMove(const catalog::CatalogReader& reader, const BestRule& before, const records::RunRecord& run,
                         int64_t now_ns, catalog::ChangeSet& change) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t from, BestVersion(reader, run.uid(), before));
  SCONCE_ASSIGN_OR_RETURN(const int64_t to, BestVersionAfter(reader, run.uid(), GetBestRule(run.settings()), change));
  if (from != to) change.log.push_back(ChangeEntry(records::CHANGE_KIND_BEST_MOVED, run, to, "best", now_ns));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MetricNames(const catalog::CatalogReader& reader, uint64_t run_uid,
                                                     size_t limit) {
  std::vector<std::string> names;
  std::string begin = catalog::MetricPrefix(run_uid);
  const std::string end = catalog::PrefixEnd(begin);
  while (names.size() < limit) {
    SCONCE_ASSIGN_OR_RETURN(const auto next, FirstMetric(reader, begin, end, false));
    if (!next) break;
    names.push_back(next->metric);
    begin = catalog::PrefixEnd(catalog::MetricPrefix(run_uid, next->metric));
  }
  return names;
}

}  // namespace sconce::repository
