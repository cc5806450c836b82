// How a version retires. The batch has the condition that the run's record is unchanged since it was surveyed, which
// covers commits, aliases, metrics and other deletions, and that each victim's own record is, which covers pins: so
// what became protected meanwhile makes the batch fail, and the run is surveyed again. A reader that has the version
// open goes on reading: its references and blobs go later, from the tombstone, and an open blob outlives its name.
#include "storage/repository/retirement.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/lookup.h"
#include "storage/repository/run_creation.h"
#include "storage/repository/tombstones.h"

namespace sconce::repository {
namespace {

constexpr size_t kVictimsPerBatch = 200;
constexpr int64_t kMaxSurveyedInCommit = 1000;  // versions; a few milliseconds

VersionFacts FactsOf(const records::CheckpointRecord& record, const std::string& metric) {
  VersionFacts facts;
  facts.version = record.version();
  facts.generation = record.generation();
  facts.create_time_ns = record.create_time_ns();
  if (record.has_expire_time_ns()) facts.expire_time_ns = record.expire_time_ns();
  if (record.has_step()) facts.step = record.step();
  for (const records::MetricEntry& entry : record.metrics()) {
    if (entry.name() == metric) facts.metric = entry.value();
  }
  facts.quarantined = IsQuarantined(record);
  facts.pinned = record.pinned();
  return facts;
}

records::DeletionCause CauseOf(RetentionReason reason) {
  return reason == RetentionReason::kExpired ? records::DELETION_CAUSE_EXPIRED : records::DELETION_CAUSE_RETENTION;
}

// Adds the deletion of versions [begin, begin + kVictimsPerBatch) of `victims` (indices into the survey). False when
// one is not what was surveyed: survey again.
absl::StatusOr<bool> AddDeletions(const catalog::CatalogReader& reader, const RetentionSurvey& survey,
                                  absl::Span<const size_t> victims, records::RunRecord& run,
                                  catalog::ChangeSet& change) {
  std::vector<std::string> keys;
  for (const size_t i : victims) keys.push_back(catalog::CheckpointKey(run.uid(), survey.versions[i].version));
  SCONCE_ASSIGN_OR_RETURN(const auto values, reader.MultiGet(keys));
  for (size_t k = 0; k < victims.size(); ++k) {
    if (!values[k]) return false;
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::CheckpointRecord>(*values[k]));
    if (record.generation() != survey.versions[victims[k]].generation) return false;
    change.conditions.push_back({keys[k], *values[k]});
    BuryCheckpoint(run.project_uid(), run.uid(), record, change);
    change.log.push_back(ChangeEntry(records::CHANGE_KIND_CHECKPOINT_DELETED, run, record.version(), "",
                                     survey.context.now_ns, CauseOf(survey.verdicts[victims[k]].reason)));
  }
  run.set_checkpoint_count(run.checkpoint_count() - static_cast<int64_t>(victims.size()));
  return true;
}

// A commit that heals a version cannot delete it too: of a key that is both put and deleted, the put counts.
bool PutsOneOf(const catalog::ChangeSet& change, const std::vector<std::string>& keys) {
  if (keys.empty()) return false;
  const std::set<absl::string_view> sorted(keys.begin(), keys.end());
  return std::any_of(change.puts.begin(), change.puts.end(),
                     [&](const auto& put) { return sorted.count(absl::string_view(put.first)) > 0; });
}

std::vector<size_t> VictimsOf(const RetentionSurvey& survey) {
  std::vector<size_t> victims;
  for (size_t i = 0; i < survey.verdicts.size(); ++i) {
    if (survey.verdicts[i].deleted()) victims.push_back(i);
  }
  return victims;
}

void LookAtNextTime(const RetentionSurvey& survey, const records::RunRecord& run, catalog::ChangeSet& change) {
  const int64_t next = NextRetentionNs(survey.context, survey.versions, survey.verdicts);
  if (next > 0) LookAtRun(run, next, change);
}

// One survey and what follows from it; true when there is nothing left to do, false when the run changed under it.
absl::StatusOr<bool> RetireSurveyed(Store& store, uint64_t run_uid, const StopSignal& stop, int64_t& retired) {
  const auto snapshot = store.catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(auto stored, ReadRecord<records::RunRecord>(*snapshot, catalog::RunKey(run_uid)));
  if (!stored) return true;
  SCONCE_ASSIGN_OR_RETURN(const RetentionSurvey survey,
                          SurveyRun(store, *snapshot, stored->record, std::nullopt, nullptr));
  const std::vector<size_t> victims = VictimsOf(survey);
  catalog::ChangeSet next_look;
  LookAtNextTime(survey, stored->record, next_look);
  if (victims.empty()) {
    if (!next_look.puts.empty()) SCONCE_RETURN_IF_ERROR(store.catalog->Apply(next_look).status());
    return true;
  }
  for (size_t begin = 0; begin < victims.size() && !stop.Requested(); begin += kVictimsPerBatch) {
    catalog::ChangeSet change = next_look;
    change.conditions.push_back(stored->Unchanged());
    records::RunRecord run = Touched(stored->record, survey.context.now_ns);
    const absl::Span<const size_t> some = absl::MakeConstSpan(victims).subspan(begin, kVictimsPerBatch);
    SCONCE_ASSIGN_OR_RETURN(const bool same, AddDeletions(*store.catalog, survey, some, run, change));
    if (!same) return false;
    std::string bytes = run.SerializeAsString();
    change.puts.emplace_back(stored->key, bytes);
    const absl::Status applied = store.catalog->Apply(change).status();
    if (catalog::FailedConditionKey(applied)) return false;
    SCONCE_RETURN_IF_ERROR(applied);
    retired += static_cast<int64_t>(some.size());
    store.changes.Notify(GetName(run));
    stored->bytes = std::move(bytes);
    stored->record = std::move(run);
  }
  return true;
}

}  // namespace

absl::StatusOr<RetentionSurvey> SurveyRun(const Store& store, const catalog::CatalogReader& reader,
                                          const records::RunRecord& run, const std::optional<RetentionRule>& rule,
                                          const records::CheckpointRecord* committed) {
  RetentionSurvey survey;
  const BestRule best = GetBestRule(run.settings());
  survey.context = {rule.value_or(GetRetentionRule(run.settings())), best.goal, store.NowNanos(),
                    committed != nullptr ? committed->version() : 0};
  SCONCE_ASSIGN_OR_RETURN(const auto aliases, AliasesByVersion(reader, run.uid()));
  absl::Status parsed;
  const std::string prefix = catalog::CheckpointPrefix(run.uid());
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view, absl::string_view value) {
        const auto record = ParseRecord<records::CheckpointRecord>(value);
        parsed = record.status();
        if (parsed.ok()) survey.versions.push_back(FactsOf(*record, best.metric));
        return parsed.ok();
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  if (committed != nullptr) {  // not always the last: another push that reserved its number later may have been faster
    const VersionFacts facts = FactsOf(*committed, best.metric);
    const auto at = std::find_if(survey.versions.begin(), survey.versions.end(),
                                 [&](const VersionFacts& other) { return other.version > facts.version; });
    survey.versions.insert(at, facts);
  }
  const RunName name = GetName(run);
  for (VersionFacts& facts : survey.versions) {
    facts.aliased = aliases.count(facts.version) > 0;
    facts.deployed = store.protect && store.protect(name, facts.version);
  }
  survey.verdicts = DecideRetention(survey.context, survey.versions);
  return survey;
}

absl::Status RetireInCommit(Store& store, const records::CheckpointRecord& committed, records::RunRecord& run,
                            catalog::ChangeSet& change) {
  if (committed.has_expire_time_ns()) LookAtRun(run, committed.expire_time_ns(), change);
  if (!HasRules(GetRetentionRule(run.settings()))) return absl::OkStatus();
  if (!store.retention_started || run.checkpoint_count() > kMaxSurveyedInCommit) {
    LookAtRunNow(store, run, change);
    return absl::OkStatus();
  }
  SCONCE_ASSIGN_OR_RETURN(const RetentionSurvey survey,
                          SurveyRun(store, *store.catalog, run, std::nullopt, &committed));
  const std::vector<size_t> victims = VictimsOf(survey);
  const absl::Span<const size_t> some = absl::MakeConstSpan(victims).subspan(0, kVictimsPerBatch);
  catalog::ChangeSet deletions;
  records::RunRecord smaller = run;
  SCONCE_ASSIGN_OR_RETURN(const bool unchanged, AddDeletions(*store.catalog, survey, some, smaller, deletions));
  const bool same = unchanged && !PutsOneOf(change, deletions.deletes);
  if (same) {
    run = std::move(smaller);
    std::move(deletions.conditions.begin(), deletions.conditions.end(), std::back_inserter(change.conditions));
    std::move(deletions.puts.begin(), deletions.puts.end(), std::back_inserter(change.puts));
    std::move(deletions.deletes.begin(), deletions.deletes.end(), std::back_inserter(change.deletes));
    std::move(deletions.log.begin(), deletions.log.end(), std::back_inserter(change.log));
  }
  if (!same || some.size() < victims.size()) LookAtRunNow(store, run, change);
  LookAtNextTime(survey, run, change);
  return absl::OkStatus();
}

void LookAtRun(const records::RunRecord& run, int64_t due_ns, catalog::ChangeSet& change) {
  change.puts.emplace_back(catalog::RetentionKey(due_ns, run.uid()), "");
}

void LookAtRunNow(const Store& store, const records::RunRecord& run, catalog::ChangeSet& change) {
  if (HasRules(GetRetentionRule(run.settings()))) LookAtRun(run, store.NowNanos(), change);
}

absl::StatusOr<int64_t> RetireRun(Store& store, uint64_t run_uid, const StopSignal& stop) {
  int64_t retired = 0;
  for (bool done = false; !done && !stop.Requested();) {
    SCONCE_ASSIGN_OR_RETURN(done, RetireSurveyed(store, run_uid, stop, retired));
  }
  return retired;
}

}  // namespace sconce::repository
