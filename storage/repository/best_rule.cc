#include "storage/repository/best_rule.h"

#include <optional>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {
namespace {

// The first key with the prefix in the given direction.
absl::StatusOr<std::optional<catalog::MetricKeyFields>> FirstMetric(const catalog::CatalogReader& reader,
                                                                    const std::string& begin, const std::string& end,
                                                                    bool reverse) {
  std::optional<catalog::MetricKeyFields> first;
  SCONCE_RETURN_IF_ERROR(reader.Scan(begin, end, reverse, [&](absl::string_view key, absl::string_view) {
    first = catalog::ParseMetricKey(key);
    return false;
  }));
  return first;
}

}  // namespace

absl::StatusOr<int64_t> LatestVersion(const catalog::CatalogReader& reader, uint64_t run_uid) {
  const std::string prefix = catalog::CheckpointPrefix(run_uid);
  int64_t latest = 0;
  absl::Status parsed;
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), true, [&](absl::string_view, absl::string_view value) {
        const auto record = ParseRecord<records::CheckpointRecord>(value);
        parsed = record.status();
        if (!parsed.ok()) return false;
        if (!IsQuarantined(*record)) latest = record->version();
        return latest == 0;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return latest;
}

absl::StatusOr<int64_t> BestVersion(const catalog::CatalogReader& reader, uint64_t run_uid, const BestRule& rule) {
  const std::string prefix = catalog::MetricPrefix(run_uid, rule.metric);
  const bool reverse = rule.goal == MetricGoal::kMaximize;
  SCONCE_ASSIGN_OR_RETURN(auto best, FirstMetric(reader, prefix, catalog::PrefixEnd(prefix), reverse));
  if (best && reverse) {  // among equal values newer ones come first, and the scan from the end met the oldest
    const std::string ties = catalog::MetricPrefix(run_uid, rule.metric, best->value);
    SCONCE_ASSIGN_OR_RETURN(best, FirstMetric(reader, ties, catalog::PrefixEnd(ties), false));
  }
  return best ? best->version : 0;
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
