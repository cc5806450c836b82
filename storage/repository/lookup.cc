#include "storage/repository/lookup.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/catalog/keys.h"
#include "storage/repository/best_rule.h"
#include "storage/repository/names.h"

namespace sconce::repository {
namespace {

constexpr size_t kNamedMetrics = 20;  // in a message

absl::Status CheckpointNotFound(const RunName& run, int64_t version) {
  return MakeError(
      Reason::CHECKPOINT_NOT_FOUND,
      absl::StrCat("run ", Display(run), " has no version ", version, "; list its checkpoints to see what there is"),
      {{"run", Display(run)}, {"version", absl::StrCat(version)}});
}

absl::Status BestUndefined(const catalog::CatalogReader& reader, const records::RunRecord& run) {
  const std::string& metric = run.settings().best_metric();
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, MetricNames(reader, run.uid(), kNamedMetrics));
  const std::string there =
      names.empty() ? "no version has any metric" : absl::StrCat("the metrics there are: ", absl::StrJoin(names, ", "));
  return MakeError(Reason::BEST_UNDEFINED,
                   absl::StrCat("no version of run ", Display(GetName(run)), " has a value of ", Quoted(metric),
                                ", which decides `best`; ", there, "; update the run's metric or add it to a version"),
                   {{"run", Display(GetName(run))}, {"metric", metric}, {"available", absl::StrJoin(names, ",")}});
}

absl::Status LatestUndefined(const RunName& run) {
  return MakeError(Reason::LATEST_UNDEFINED,
                   absl::StrCat("run ", Display(run), " has no committed version yet; push one"),
                   {{"run", Display(run)}});
}

// Of a selector that is not `latest`.
absl::StatusOr<int64_t> ResolveVersion(const catalog::CatalogReader& reader, const records::RunRecord& run,
                                       const Selector& selector) {
  if (selector.kind == Selector::Kind::kVersion) return selector.version;
  if (selector.kind == Selector::Kind::kBest) {
    SCONCE_ASSIGN_OR_RETURN(const int64_t best, BestVersion(reader, run.uid(), GetBestRule(run.settings())));
    if (best > 0) return best;
    return BestUndefined(reader, run);
  }
  const RunName name = GetName(run);
  SCONCE_ASSIGN_OR_RETURN(const auto alias,
                          ReadRecord<records::AliasRecord>(reader, catalog::AliasKey(run.uid(), selector.alias)));
  if (alias) return alias->record.version();
  return MakeError(Reason::ALIAS_NOT_FOUND,
                   absl::StrCat("run ", Display(name), " has no alias ", Quoted(selector.alias),
                                "; set it first, or use a version number, `latest` or `best`"),
                   {{"run", Display(name)}, {"alias", selector.alias}});
}

}  // namespace

absl::Status RunNotFound(const RunName& name) {
  return MakeError(Reason::RUN_NOT_FOUND, absl::StrCat("there is no run ", Display(name), "; create it, or push to it"),
                   {{"run", Display(name)}});
}

absl::StatusOr<std::optional<uint64_t>> FindProject(const catalog::CatalogReader& reader, const std::string& project) {
  SCONCE_ASSIGN_OR_RETURN(const auto found, ReadRecord<records::ProjectRecord>(reader, catalog::ProjectKey(project)));
  if (!found) return std::nullopt;
  return std::optional<uint64_t>(found->record.uid());
}

absl::StatusOr<std::optional<Stored<records::RunRecord>>> FindAnyRun(const catalog::CatalogReader& reader,
                                                                     const RunName& name) {
  SCONCE_RETURN_IF_ERROR(ValidateRunName(name));
  SCONCE_ASSIGN_OR_RETURN(const std::optional<uint64_t> project_uid, FindProject(reader, name.project));
  if (!project_uid) return std::nullopt;
  SCONCE_ASSIGN_OR_RETURN(const auto named,
                          ReadRecord<records::RunNameRecord>(reader, catalog::RunNameKey(*project_uid, name.run)));
  if (!named) return std::nullopt;
  return ReadRecord<records::RunRecord>(reader, catalog::RunKey(named->record.run_uid()));
}

absl::StatusOr<Stored<records::RunRecord>> FindRun(const catalog::CatalogReader& reader, const RunName& name) {
  SCONCE_ASSIGN_OR_RETURN(auto run, FindAnyRun(reader, name));
  if (!run || run->record.hidden()) return RunNotFound(name);
  return *std::move(run);
}

absl::StatusOr<FoundCheckpoint> FindCheckpoint(const catalog::CatalogReader& reader, const CheckpointRef& ref) {
  SCONCE_ASSIGN_OR_RETURN(const Selector selector, ParseSelector(ref.selector));
  SCONCE_ASSIGN_OR_RETURN(auto run, FindRun(reader, ref.run));
  if (selector.kind == Selector::Kind::kLatest) {
    SCONCE_ASSIGN_OR_RETURN(auto latest, FindLatest(reader, run.record));
    if (!latest) return LatestUndefined(ref.run);
    return FoundCheckpoint{std::move(run), *std::move(latest)};
  }
  SCONCE_ASSIGN_OR_RETURN(const int64_t version, ResolveVersion(reader, run.record, selector));
  SCONCE_ASSIGN_OR_RETURN(auto checkpoint, ReadRecord<records::CheckpointRecord>(
                                               reader, catalog::CheckpointKey(run.record.uid(), version)));
  if (!checkpoint) return CheckpointNotFound(ref.run, version);
  return FoundCheckpoint{std::move(run), *std::move(checkpoint)};
}

absl::StatusOr<Stored<records::ModuleRecord>> FindModule(const catalog::CatalogReader& reader,
                                                         const records::RunRecord& run, const std::string& module) {
  SCONCE_RETURN_IF_ERROR(ValidateId("module", module));
  SCONCE_ASSIGN_OR_RETURN(auto found, ReadRecord<records::ModuleRecord>(reader, catalog::ModuleKey(run.uid(), module)));
  if (found) return *std::move(found);
  return MakeError(Reason::MODULE_NOT_FOUND,
                   absl::StrCat("run ", Display(GetName(run)), " has no module ", Quoted(module), "; push it first"),
                   {{"run", Display(GetName(run))}, {"module", module}});
}

absl::StatusOr<std::map<int64_t, std::vector<std::string>>> AliasesByVersion(const catalog::CatalogReader& reader,
                                                                             uint64_t run_uid) {
  std::map<int64_t, std::vector<std::string>> aliases;
  absl::Status parsed;
  const std::string prefix = catalog::AliasPrefix(run_uid);
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        const auto record = ParseRecord<records::AliasRecord>(value);
        parsed = record.status();
        if (parsed.ok()) aliases[record->version()].push_back(catalog::ParseAliasKey(key).value_or(""));
        return parsed.ok();
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return aliases;
}

absl::StatusOr<uint64_t> AllocateUids(const catalog::CatalogReader& reader, uint64_t count,
                                      catalog::ChangeSet& change) {
  SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> stored, reader.Get(catalog::NextUidKey()));
  uint64_t next = 1;
  if (stored && !absl::SimpleAtoi(*stored, &next)) {
    return MakeError(Reason::CATALOG_CORRUPT, "the catalog's uid counter does not parse; restore it from a backup");
  }
  change.conditions.push_back({catalog::NextUidKey(), stored});
  change.puts.emplace_back(catalog::NextUidKey(), absl::StrCat(next + count));
  return next;
}

absl::Status EtagMismatch(const std::string& object, const std::string& current) {
  return MakeError(Reason::ETAG_MISMATCH,
                   absl::StrCat(object, " has changed: its etag is ", current.empty() ? "none" : current,
                                " now; read it again and decide"),
                   {{"object", object}, {"etag", current}});
}

}  // namespace sconce::repository
