#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/names.h"
#include "storage/repository/retirement.h"
#include "storage/repository/run_creation.h"

// Every change of an alias rewrites the run's record, so that a version cannot be deleted while it is being named.
namespace sconce::repository {
namespace {

std::string DisplayAlias(const RunName& run, const std::string& alias) {
  return absl::StrCat("alias ", alias, " of run ", Display(run));
}

absl::Status AliasNotFound(const RunName& run, const std::string& alias) {
  return MakeError(Reason::ALIAS_NOT_FOUND,
                   absl::StrCat("run ", Display(run), " has no alias ", Quoted(alias), "; set it first"),
                   {{"run", Display(run)}, {"alias", alias}});
}

absl::Status CheckEtag(const RunName& run, const std::string& alias,
                       const std::optional<Stored<records::AliasRecord>>& found, const std::string& etag) {
  const std::string current = found ? AliasEtag(found->record) : "";
  if (etag.empty() || etag == current) return absl::OkStatus();
  return EtagMismatch(DisplayAlias(run, alias), current);
}

}  // namespace

absl::StatusOr<Alias> LocalRepository::SetAlias(const RunName& run, const std::string& alias,
                                                const std::string& selector, const std::string& etag,
                                                bool must_be_new) {
  SCONCE_RETURN_IF_ERROR(ValidateAlias(alias));
  SCONCE_ASSIGN_OR_RETURN(
      const Alias set, RetryOnConflict([&]() -> absl::StatusOr<Alias> {
        const auto snapshot = store_->catalog->Snapshot();
        SCONCE_ASSIGN_OR_RETURN(const FoundCheckpoint target, FindCheckpoint(*snapshot, {run, selector}));
        const std::string key = catalog::AliasKey(target.run.record.uid(), alias);
        SCONCE_ASSIGN_OR_RETURN(const auto found, ReadRecord<records::AliasRecord>(*snapshot, key));
        if (must_be_new && found) return EtagMismatch(DisplayAlias(run, alias), AliasEtag(found->record));
        SCONCE_RETURN_IF_ERROR(CheckEtag(run, alias, found, etag));
        const records::RunRecord touched = Touched(target.run.record, store_->NowNanos());
        records::AliasRecord record;
        record.set_version(target.checkpoint.record.version());
        record.set_update_time_ns(touched.update_time_ns());
        record.set_run_generation(touched.generation());
        catalog::ChangeSet change;
        change.conditions.push_back(target.run.Unchanged());
        change.puts.emplace_back(target.run.key, touched.SerializeAsString());
        change.puts.emplace_back(key, record.SerializeAsString());
        if (found) LookAtRunNow(*store_, touched, change);
        change.log.push_back(
            ChangeEntry(records::CHANGE_KIND_ALIAS_SET, touched, record.version(), alias, touched.update_time_ns()));
        SCONCE_RETURN_IF_ERROR(store_->catalog->Apply(change).status());
        return ToAlias(run, alias, record);
      }));
  store_->changes.Notify(run);
  return set;
}

absl::StatusOr<Alias> LocalRepository::GetAlias(const RunName& run, const std::string& alias) {
  SCONCE_RETURN_IF_ERROR(ValidateAlias(alias));
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto found_run, FindRun(*snapshot, run));
  SCONCE_ASSIGN_OR_RETURN(
      const auto found, ReadRecord<records::AliasRecord>(*snapshot, catalog::AliasKey(found_run.record.uid(), alias)));
  if (!found) return AliasNotFound(run, alias);
  return ToAlias(run, alias, found->record);
}

absl::StatusOr<Page<Alias>> LocalRepository::ListAliases(const RunName& run, const std::string& start, int64_t limit) {
  SCONCE_RETURN_IF_ERROR(CheckLimit(limit));
  if (!start.empty() && !ValidateAlias(start).ok()) return BadPageStart(start);
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto found_run, FindRun(*snapshot, run));
  const uint64_t run_uid = found_run.record.uid();
  Page<Alias> page;
  absl::Status parsed;
  SCONCE_RETURN_IF_ERROR(snapshot->Scan(
      start.empty() ? catalog::AliasPrefix(run_uid) : catalog::AliasKey(run_uid, start),
      catalog::PrefixEnd(catalog::AliasPrefix(run_uid)), false, [&](absl::string_view key, absl::string_view value) {
        const auto record = ParseRecord<records::AliasRecord>(value);
        parsed = record.status();
        if (!parsed.ok()) return false;
        const std::string alias = catalog::ParseAliasKey(key).value_or("");
        if (static_cast<int64_t>(page.items.size()) == limit) {
          page.next = alias;
          return false;
        }
        page.items.push_back(ToAlias(run, alias, *record));
        return true;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return page;
}

absl::Status LocalRepository::DeleteAlias(const RunName& run, const std::string& alias, const std::string& etag) {
  SCONCE_RETURN_IF_ERROR(ValidateAlias(alias));
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    const auto snapshot = store_->catalog->Snapshot();
    SCONCE_ASSIGN_OR_RETURN(const auto found_run, FindRun(*snapshot, run));
    const std::string key = catalog::AliasKey(found_run.record.uid(), alias);
    SCONCE_ASSIGN_OR_RETURN(const auto found, ReadRecord<records::AliasRecord>(*snapshot, key));
    if (!found) return AliasNotFound(run, alias);
    SCONCE_RETURN_IF_ERROR(CheckEtag(run, alias, found, etag));
    const records::RunRecord touched = Touched(found_run.record, store_->NowNanos());
    catalog::ChangeSet change;
    change.conditions.push_back(found_run.Unchanged());
    change.puts.emplace_back(found_run.key, touched.SerializeAsString());
    change.deletes.push_back(key);
    LookAtRunNow(*store_, touched, change);
    change.log.push_back(ChangeEntry(records::CHANGE_KIND_ALIAS_DELETED, touched, found->record.version(), alias,
                                     touched.update_time_ns()));
    return store_->catalog->Apply(change).status();
  }));
  store_->changes.Notify(run);
  return absl::OkStatus();
}

}  // namespace sconce::repository
