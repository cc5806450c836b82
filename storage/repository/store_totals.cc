#include "storage/repository/store_totals.h"

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {
namespace {

// A hidden run is not there yet.
absl::Status AddRun(absl::string_view value, int64_t sign, StoreTotals::Totals& totals) {
  SCONCE_ASSIGN_OR_RETURN(const auto run, ParseRecord<records::RunRecord>(value));
  if (run.hidden()) return absl::OkStatus();
  totals.runs += sign;
  totals.checkpoints += sign * run.checkpoint_count();
  return absl::OkStatus();
}

void AddCondition(const catalog::ChangeSet& change, absl::string_view key, StoreTotals::Totals& totals) {
  for (const catalog::Condition& condition : change.conditions) {
    if (condition.key != key) continue;
    if (condition.value) AddRun(*condition.value, -1, totals).IgnoreError();
    return;
  }
}

absl::StatusOr<StoreTotals::Totals> CountAll(const catalog::CatalogReader& reader) {
  StoreTotals::Totals totals;
  absl::Status parsed;
  SCONCE_RETURN_IF_ERROR(reader.Scan(catalog::ProjectPrefix(), catalog::PrefixEnd(catalog::ProjectPrefix()), false,
                                     [&](absl::string_view, absl::string_view) { return ++totals.projects > 0; }));
  SCONCE_RETURN_IF_ERROR(reader.Scan(catalog::RunPrefix(), catalog::PrefixEnd(catalog::RunPrefix()), false,
                                     [&](absl::string_view, absl::string_view value) {
                                       parsed = AddRun(value, 1, totals);
                                       return parsed.ok();
                                     }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return totals;
}

}  // namespace

void StoreTotals::Begin(std::unique_ptr<catalog::CatalogReader> start) {
  MutexLock lock(&count_mu_);
  start_ = std::move(start);
}

void StoreTotals::Note(const catalog::ChangeSet& change) {
  const std::string run_prefix = catalog::RunPrefix(), project_prefix = catalog::ProjectPrefix();
  Totals added;
  std::map<absl::string_view, std::optional<absl::string_view>> runs;  // as the change leaves them: the last put counts
  for (const std::string& key : change.deletes) {
    if (absl::StartsWith(key, run_prefix)) runs[key] = std::nullopt;
  }
  for (const auto& [key, value] : change.puts) {
    if (absl::StartsWith(key, run_prefix)) runs[key] = value;
    if (absl::StartsWith(key, project_prefix)) ++added.projects;  // put once, never changed or deleted
  }
  for (const auto& [key, value] : runs) {
    AddCondition(change, key, added);
    if (value) AddRun(*value, 1, added).IgnoreError();
  }
  MutexLock lock(&mu_);
  totals_.projects += added.projects;
  totals_.runs += added.runs;
  totals_.checkpoints += added.checkpoints;
}

absl::StatusOr<StoreTotals::Totals> StoreTotals::Get() {
  MutexLock counting(&count_mu_);
  if (start_ != nullptr) {
    SCONCE_ASSIGN_OR_RETURN(const Totals counted, CountAll(*start_));
    start_.reset();
    MutexLock lock(&mu_);
    totals_.projects += counted.projects;
    totals_.runs += counted.runs;
    totals_.checkpoints += counted.checkpoints;
  }
  MutexLock lock(&mu_);
  return totals_;
}

}  // namespace sconce::repository
