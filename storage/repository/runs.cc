#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/best_rule.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/names.h"
#include "storage/repository/request_ids.h"
#include "storage/repository/retirement.h"
#include "storage/repository/run_creation.h"
#include "storage/repository/tombstones.h"

namespace sconce::repository {
namespace {

absl::Status ValidateSettings(const Labels& labels, const BestRule& best, const RetentionRule& retention) {
  SCONCE_RETURN_IF_ERROR(ValidateLabels(labels));
  if (!IsMetricName(best.metric)) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("the metric name ", Quoted(best.metric), " that should decide `best` is not valid"));
  }
  return ValidateRetention(retention);
}

absl::Status CheckEtag(const records::RunRecord& run, const std::string& etag) {
  if (etag.empty() || etag == RunEtag(run)) return absl::OkStatus();
  return EtagMismatch(absl::StrCat("run ", Display(GetName(run))), RunEtag(run));
}

struct NamedRun {
  RunName name;
  uint64_t uid = 0;
};

// The project's runs from `start` on, at most `limit` of them.
absl::Status NamesOfRuns(const catalog::CatalogReader& reader, const std::string& project, uint64_t project_uid,
                         const std::string& start, size_t limit, std::vector<NamedRun>& out) {
  absl::Status parsed;
  const std::string begin =
      start.empty() ? catalog::RunNamePrefix(project_uid) : catalog::RunNameKey(project_uid, start);
  if (out.size() >= limit) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(begin, catalog::PrefixEnd(catalog::RunNamePrefix(project_uid)), false,
                  [&](absl::string_view key, absl::string_view value) {
                    const auto record = ParseRecord<records::RunNameRecord>(value);
                    parsed = record.status();
                    if (!parsed.ok()) return false;
                    out.push_back({{project, catalog::ParseRunNameKey(key).value_or("")}, record->run_uid()});
                    return out.size() < limit;
                  }));
  return parsed;
}

// Names and uids of the projects from `start` on; only `only` when that is not empty.
absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> Projects(const catalog::CatalogReader& reader,
                                                                       const std::string& only,
                                                                       const std::string& start) {
  std::vector<std::pair<std::string, uint64_t>> projects;
  if (!only.empty()) {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<uint64_t> uid, FindProject(reader, only));
    if (uid) projects.emplace_back(only, *uid);
    return projects;
  }
  absl::Status parsed;
  const std::string begin = start.empty() ? catalog::ProjectPrefix() : catalog::ProjectKey(start);
  SCONCE_RETURN_IF_ERROR(reader.Scan(begin, catalog::PrefixEnd(catalog::ProjectPrefix()), false,
                                     [&](absl::string_view key, absl::string_view value) {
                                       const auto record = ParseRecord<records::ProjectRecord>(value);
                                       parsed = record.status();
                                       if (!parsed.ok()) return false;
                                       projects.emplace_back(catalog::ParseProjectKey(key).value_or(""), record->uid());
                                       return true;
                                     }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return projects;
}

}  // namespace

absl::StatusOr<Run> LocalRepository::Describe(const catalog::CatalogReader& reader,
                                              const records::RunRecord& record) const {
  Run run = ToRun(record);
  SCONCE_ASSIGN_OR_RETURN(run.latest_version, LatestVersion(reader, record));
  SCONCE_ASSIGN_OR_RETURN(run.best_version, BestVersion(reader, record.uid(), run.best_rule));
  return run;
}

absl::StatusOr<Run> LocalRepository::CreateRun(const RunName& name, const Labels& labels, const BestRule& best,
                                               const RetentionRule& retention, const RequestKey& request) {
  SCONCE_RETURN_IF_ERROR(ValidateRunName(name));
  SCONCE_RETURN_IF_ERROR(ValidateSettings(labels, best, retention));
  SCONCE_ASSIGN_OR_RETURN(const uint64_t project_uid, EnsureProject(*store_, name.project));
  const Digest body = CreateRunBody(name, labels, best, retention);
  return RetryOnConflict([&]() -> absl::StatusOr<Run> {
    const catalog::CatalogReader& reader = *store_->catalog;
    const int64_t now = store_->NowNanos();
    catalog::ChangeSet change;
    SCONCE_ASSIGN_OR_RETURN(auto found, FindAnyRun(reader, name));
    records::RunRecord run;
    if (found) {
      run = found->record;
      change.conditions.push_back(found->Unchanged());
    } else {
      SCONCE_ASSIGN_OR_RETURN(const uint64_t uid, AllocateUids(reader, 1, change));
      run = NewRun(name, project_uid, uid, now);
      change.conditions.push_back({catalog::RunNameKey(project_uid, name.run), std::nullopt});
    }
    records::RequestRecord answer;
    answer.set_run_uid(run.uid());
    SCONCE_ASSIGN_OR_RETURN(const auto answered,
                            ClaimRequest(reader, project_uid, request, body, now, std::move(answer), change));
    if (found && !run.hidden()) {
      if (answered && answered->run_uid() == run.uid()) return Describe(reader, run);
      return MakeError(Reason::RUN_ALREADY_EXISTS,
                       absl::StrCat("run ", Display(name), " exists; update it, or choose another name"),
                       {{"run", Display(name)}});
    }
    if (answered) return RunNotFound(name);  // created by this request, and deleted since
    run = Touched(run, now);
    run.set_create_time_ns(now);
    SetSettings(labels, best, retention, *run.mutable_settings());
    PutRun(run, change);
    change.log.push_back(ChangeEntry(records::CHANGE_KIND_RUN_CREATED, run, 0, "", now));
    SCONCE_RETURN_IF_ERROR(store_->catalog->Apply(change).status());
    store_->changes.Notify(name);
    return Describe(reader, run);
  });
}

absl::StatusOr<Run> LocalRepository::GetRun(const RunName& name) {
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto run, FindRun(*snapshot, name));
  return Describe(*snapshot, run.record);
}

absl::StatusOr<Page<Run>> LocalRepository::ListRuns(const std::string& project, const std::string& start,
                                                    int64_t limit) {
  SCONCE_RETURN_IF_ERROR(CheckLimit(limit));
  if (!project.empty()) SCONCE_RETURN_IF_ERROR(ValidateId("project", project));
  RunName from;
  if (!start.empty()) {
    const std::vector<std::string> parts = absl::StrSplit(start, '/');
    if (parts.size() != 2 || !ValidateId("project", parts[0]).ok() || !ValidateId("run", parts[1]).ok() ||
        (!project.empty() && parts[0] != project)) {
      return BadPageStart(start);
    }
    from = {parts[0], parts[1]};
  }
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto projects, Projects(*snapshot, project, from.project));
  Page<Run> page;
  for (const auto& [name, uid] : projects) {
    std::string begin = name == from.project ? from.run : "";
    while (true) {
      // One more than the page takes tells where the next one starts.
      const size_t wanted = static_cast<size_t>(limit) - page.items.size() + 1;
      std::vector<NamedRun> runs;
      SCONCE_RETURN_IF_ERROR(NamesOfRuns(*snapshot, name, uid, begin, wanted, runs));
      for (const NamedRun& named : runs) {
        SCONCE_ASSIGN_OR_RETURN(const auto run, ReadRecord<records::RunRecord>(*snapshot, catalog::RunKey(named.uid)));
        if (!run || run->record.hidden()) continue;
        if (static_cast<int64_t>(page.items.size()) == limit) {
          page.next = Display(named.name);
          return page;
        }
        SCONCE_ASSIGN_OR_RETURN(Run described, Describe(*snapshot, run->record));
        page.items.push_back(std::move(described));
      }
      if (runs.size() < wanted) break;
      begin = runs.back().name.run + '-';  // hidden ones took room: go on behind the last; no name sorts in between
    }
  }
  return page;
}

absl::StatusOr<Run> LocalRepository::UpdateRun(const RunName& name, const RunUpdate& update) {
  return RetryOnConflict([&]() -> absl::StatusOr<Run> {
    SCONCE_ASSIGN_OR_RETURN(const auto found, FindRun(*store_->catalog, name));
    SCONCE_RETURN_IF_ERROR(CheckEtag(found.record, update.etag));
    const Run before = ToRun(found.record);
    const Labels labels = update.labels.value_or(before.labels);
    const BestRule best = update.best_rule.value_or(before.best_rule);
    const RetentionRule retention = update.retention.value_or(before.retention);
    SCONCE_RETURN_IF_ERROR(ValidateSettings(labels, best, retention));
    records::RunRecord run = Touched(found.record, store_->NowNanos());
    SetSettings(labels, best, retention, *run.mutable_settings());
    run.set_settings_generation(run.settings_generation() + 1);
    catalog::ChangeSet change;
    change.conditions.push_back(found.Unchanged());
    change.puts.emplace_back(found.key, run.SerializeAsString());
    change.log.push_back(ChangeEntry(records::CHANGE_KIND_RUN_UPDATED, run, 0, "", run.update_time_ns()));
    SCONCE_RETURN_IF_ERROR(LogBestMove(*store_->catalog, before.best_rule, run, run.update_time_ns(), change));
    LookAtRunNow(*store_, run, change);
    SCONCE_RETURN_IF_ERROR(store_->catalog->Apply(change).status());
    store_->changes.Notify(name);  // `best` may be another one now
    return Describe(*store_->catalog, run);
  });
}

absl::Status LocalRepository::CheckRunDeletable(const catalog::CatalogReader& reader, const records::RunRecord& run,
                                                bool force) const {
  const RunName name = GetName(run);
  const std::string modules = catalog::ModulePrefix(run.uid());
  bool empty = run.checkpoint_count() == 0;
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(modules, catalog::PrefixEnd(modules), false, [&](absl::string_view, absl::string_view) {
        empty = false;
        return false;
      }));
  if (!empty && !force) {
    return MakeError(Reason::RUN_NOT_EMPTY,
                     absl::StrCat("run ", Display(name), " still holds ", run.checkpoint_count(),
                                  " checkpoints or a module; delete them, or force the deletion"),
                     {{"run", Display(name)}, {"checkpoints", absl::StrCat(run.checkpoint_count())}});
  }
  if (!store_->protect) return absl::OkStatus();
  absl::Status status;
  const std::string prefix = catalog::CheckpointPrefix(run.uid());
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view, absl::string_view value) {
        const auto record = ParseRecord<records::CheckpointRecord>(value);
        status = record.status();
        if (status.ok() && store_->protect(name, record->version())) {
          status = MakeError(Reason::CHECKPOINT_PROTECTED,
                             absl::StrCat("version ", record->version(), " of run ", Display(name),
                                          " is served by a deployment; undeploy the model first"),
                             {{"run", Display(name)}, {"version", absl::StrCat(record->version())}});
        }
        return status.ok();
      }));
  return status;
}

absl::Status LocalRepository::DeleteRun(const RunName& name, const std::string& etag, bool force) {
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    const auto snapshot = store_->catalog->Snapshot();
    SCONCE_ASSIGN_OR_RETURN(const auto found, FindRun(*snapshot, name));
    SCONCE_RETURN_IF_ERROR(CheckEtag(found.record, etag));
    SCONCE_RETURN_IF_ERROR(CheckRunDeletable(*snapshot, found.record, force));
    records::RunTombstoneRecord tombstone;
    tombstone.set_project_uid(found.record.project_uid());
    catalog::ChangeSet change;
    change.conditions.push_back(found.Unchanged());
    change.deletes = {found.key, catalog::RunNameKey(found.record.project_uid(), name.run)};
    change.puts.emplace_back(catalog::RunTombstoneKey(found.record.uid()), tombstone.SerializeAsString());
    change.log.push_back(ChangeEntry(records::CHANGE_KIND_RUN_DELETED, found.record, 0, "", store_->NowNanos()));
    return store_->catalog->Apply(change).status();
  }));
  store_->changes.Notify(name);
  collector_.Wake();
  return absl::OkStatus();
}

}  // namespace sconce::repository
