#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/version_index.h"
#include "storage/repository/attributes.h"
#include "storage/repository/best_rule.h"
#include "storage/repository/checkpoint_list.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/names.h"
#include "storage/repository/retirement.h"
#include "storage/repository/run_creation.h"
#include "storage/repository/tombstones.h"

namespace sconce::repository {
namespace {

std::string DisplayVersion(const RunName& run, int64_t version) {
  return absl::StrCat("version ", version, " of run ", Display(run));
}

absl::Status CheckEtag(const RunName& run, const records::CheckpointRecord& record, const std::string& etag) {
  if (etag.empty() || etag == CheckpointEtag(record)) return absl::OkStatus();
  return EtagMismatch(DisplayVersion(run, record.version()), CheckpointEtag(record));
}

// What was there and what is added; METRIC_ALREADY_SET.
absl::StatusOr<Metrics> AddMetrics(const RunName& run, const records::CheckpointRecord& record, const Metrics& added) {
  Metrics metrics = GetMetrics(record);
  for (const auto& [name, value] : added) {
    const auto [it, is_new] = metrics.emplace(name, value);
    if (!is_new && !SameMetric(it->second, value)) {
      return MakeError(Reason::METRIC_ALREADY_SET,
                       absl::StrCat("metric ", Quoted(name), " of ", DisplayVersion(run, record.version()), " is ",
                                    it->second, " already; metrics are added, never changed: use another name"),
                       {{"metric", name}, {"value", absl::StrCat(it->second)}});
    }
  }
  SCONCE_RETURN_IF_ERROR(ValidateMetrics(metrics));
  return metrics;
}

absl::StatusOr<Checkpoint> WithAliases(const catalog::CatalogReader& reader, uint64_t run_uid, Checkpoint checkpoint) {
  SCONCE_ASSIGN_OR_RETURN(auto aliases, AliasesByVersion(reader, run_uid));
  checkpoint.aliases = std::move(aliases[checkpoint.version]);
  return checkpoint;
}

}  // namespace

absl::StatusOr<Checkpoint> LocalRepository::GetCheckpoint(const CheckpointRef& ref) {
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const FoundCheckpoint found, FindCheckpoint(*snapshot, ref));
  return WithAliases(*snapshot, found.run.record.uid(), ToCheckpoint(ref.run, found.checkpoint.record));
}

absl::StatusOr<Page<Checkpoint>> LocalRepository::ListCheckpoints(const RunName& run, const CheckpointQuery& query,
                                                                  const std::string& start, int64_t limit) {
  SCONCE_RETURN_IF_ERROR(CheckLimit(limit));
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto found, FindRun(*snapshot, run));
  return ListByQuery(*snapshot, found.record, query, start, limit);
}

absl::StatusOr<Checkpoint> LocalRepository::UpdateCheckpoint(const CheckpointRef& ref, const CheckpointUpdate& update) {
  if (update.labels) SCONCE_RETURN_IF_ERROR(ValidateLabels(*update.labels));
  SCONCE_RETURN_IF_ERROR(ValidateMetrics(update.add_metrics));
  return RetryOnConflict([&]() -> absl::StatusOr<Checkpoint> {
    SCONCE_ASSIGN_OR_RETURN(const FoundCheckpoint found, FindCheckpoint(*store_->catalog, ref));
    const uint64_t run_uid = found.run.record.uid();
    records::CheckpointRecord record = found.checkpoint.record;
    SCONCE_RETURN_IF_ERROR(CheckEtag(ref.run, record, update.etag));
    SCONCE_ASSIGN_OR_RETURN(const Metrics metrics, AddMetrics(ref.run, record, update.add_metrics));
    SetMetrics(metrics, record);
    if (update.labels) SetLabels(*update.labels, *record.mutable_labels());
    if (update.pinned) record.set_pinned(*update.pinned);
    if (update.expire_time) {
      record.clear_expire_time_ns();
      if (*update.expire_time) record.set_expire_time_ns(ToNanos(**update.expire_time));
    }
    record.set_generation(record.generation() + 1);
    catalog::ChangeSet change;
    change.conditions = {found.checkpoint.Unchanged(), found.run.Unchanged()};
    change.puts.emplace_back(found.checkpoint.key, record.SerializeAsString());
    const int64_t now = store_->NowNanos();
    const records::RunRecord run = Touched(found.run.record, now);
    change.puts.emplace_back(found.run.key, run.SerializeAsString());
    catalog::Reindex(run_uid, &found.checkpoint.record, &record, change);
    change.log.push_back(ChangeEntry(records::CHANGE_KIND_CHECKPOINT_UPDATED, run, record.version(), "", now));
    SCONCE_RETURN_IF_ERROR(LogBestMove(*store_->catalog, GetBestRule(run.settings()), run, now, change));
    if (record.has_expire_time_ns()) LookAtRun(run, record.expire_time_ns(), change);
    LookAtRunNow(*store_, run, change);
    SCONCE_RETURN_IF_ERROR(store_->catalog->Apply(change).status());
    store_->changes.Notify(ref.run);
    return WithAliases(*store_->catalog, run_uid, ToCheckpoint(ref.run, record));
  });
}

absl::Status LocalRepository::CheckDeletable(const catalog::CatalogReader& reader, const FoundCheckpoint& found,
                                             bool force) const {
  const RunName run = GetName(found.run.record);
  const int64_t version = found.checkpoint.record.version();
  const auto protected_by = [&](absl::string_view what, absl::string_view how) {
    return MakeError(Reason::CHECKPOINT_PROTECTED, absl::StrCat(DisplayVersion(run, version), " is ", what, "; ", how),
                     {{"run", Display(run)}, {"version", absl::StrCat(version)}});
  };
  if (store_->protect && store_->protect(run, version)) {
    return protected_by("served by a deployment", "undeploy the model first");
  }
  if (force) return absl::OkStatus();
  if (found.checkpoint.record.pinned()) return protected_by("pinned", "unpin it, or force the deletion");
  SCONCE_ASSIGN_OR_RETURN(auto aliases, AliasesByVersion(reader, found.run.record.uid()));
  if (const auto& names = aliases[version]; !names.empty()) {
    return protected_by(absl::StrCat("named by alias ", absl::StrJoin(names, ", ")),
                        "move or delete the alias, or force the deletion");
  }
  return absl::OkStatus();
}

absl::Status LocalRepository::DeleteCheckpoint(const CheckpointRef& ref, const std::string& etag, bool force,
                                               bool validate_only) {
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    const auto snapshot = store_->catalog->Snapshot();
    SCONCE_ASSIGN_OR_RETURN(const FoundCheckpoint found, FindCheckpoint(*snapshot, ref));
    const records::CheckpointRecord& record = found.checkpoint.record;
    const uint64_t run_uid = found.run.record.uid();
    SCONCE_RETURN_IF_ERROR(CheckEtag(ref.run, record, etag));
    SCONCE_RETURN_IF_ERROR(CheckDeletable(*snapshot, found, force));
    if (validate_only) return absl::OkStatus();
    records::RunRecord run = Touched(found.run.record, store_->NowNanos());
    run.set_checkpoint_count(run.checkpoint_count() - 1);
    catalog::ChangeSet change;
    // The run's record stands for its aliases too: one set meanwhile makes this condition fail.
    change.conditions = {found.run.Unchanged(), found.checkpoint.Unchanged()};
    change.puts.emplace_back(found.run.key, run.SerializeAsString());
    BuryCheckpoint(run.project_uid(), run_uid, record, change);
    SCONCE_ASSIGN_OR_RETURN(auto aliases, AliasesByVersion(*snapshot, run_uid));
    for (const std::string& alias : aliases[record.version()]) {
      change.deletes.push_back(catalog::AliasKey(run_uid, alias));
      change.log.push_back(
          ChangeEntry(records::CHANGE_KIND_ALIAS_DELETED, run, record.version(), alias, run.update_time_ns()));
    }
    change.log.push_back(
        ChangeEntry(records::CHANGE_KIND_CHECKPOINT_DELETED, run, record.version(), "", run.update_time_ns()));
    SCONCE_RETURN_IF_ERROR(LogBestMove(*snapshot, GetBestRule(run.settings()), run, run.update_time_ns(), change));
    return store_->catalog->Apply(change).status();
  }));
  if (validate_only) return absl::OkStatus();
  store_->integrity.Refresh(*store_->catalog);
  store_->changes.Notify(ref.run);
  collector_.Wake();
  return absl::OkStatus();
}

}  // namespace sconce::repository
