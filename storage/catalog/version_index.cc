#include "storage/catalog/version_index.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "storage/catalog/keys.h"

namespace sconce::catalog {

namespace records = ::sconce::storage::v1;

bool IsQuarantined(const records::CheckpointRecord& record) {
  return record.bad_chunks_size() > 0 || record.manifest_corrupt();
}

std::vector<std::string> IndexKeys(uint64_t run_uid, const records::CheckpointRecord& record) {
  std::vector<std::string> keys;
  const int64_t version = record.version();
  const bool can_win = !IsQuarantined(record);
  for (const records::MetricEntry& metric : record.metrics()) {
    keys.push_back(can_win && !std::isnan(metric.value())
                       ? MetricKey(run_uid, metric.name(), metric.value(), version)
                       : LoserMetricKey(run_uid, metric.name(), metric.value(), version));
  }
  for (const records::LabelEntry& label : record.labels()) {
    keys.push_back(LabelKey(run_uid, label.key(), label.value(), version));
  }
  const auto number = [&](NumberField field, int64_t value) {
    keys.push_back(NumberKey(run_uid, field, value, version));
  };
  if (record.has_epoch()) number(NumberField::kEpoch, record.epoch());
  if (record.has_step()) number(NumberField::kStep, record.step());
  number(NumberField::kCreateTime, record.create_time_ns());
  if (record.pinned()) number(NumberField::kPinned, 1);
  if (record.kind() == records::CHECKPOINT_KIND_OPAQUE) number(NumberField::kOpaque, 1);
  if (!can_win) number(NumberField::kQuarantined, 1);
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

void Reindex(uint64_t run_uid, const records::CheckpointRecord* before, const records::CheckpointRecord* after,
             ChangeSet& change) {
  std::vector<std::string> had, has;
  if (before != nullptr) had = IndexKeys(run_uid, *before);
  if (after != nullptr) has = IndexKeys(run_uid, *after);
  std::set_difference(had.begin(), had.end(), has.begin(), has.end(), std::back_inserter(change.deletes));
  std::vector<std::string> added;
  std::set_difference(has.begin(), has.end(), had.begin(), had.end(), std::back_inserter(added));
  for (std::string& key : added) change.puts.emplace_back(std::move(key), "");
}

}  // namespace sconce::catalog
