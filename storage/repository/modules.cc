#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/names.h"
#include "storage/repository/push.h"
#include "storage/repository/run_creation.h"
#include "storage/repository/stored_object.h"
#include "storage/repository/tombstones.h"

// Modules, and the deployments that use them.
namespace sconce::repository {

absl::StatusOr<std::unique_ptr<ModulePush>> LocalRepository::BeginModulePush(const RunName& run,
                                                                             const std::string& module,
                                                                             int64_t size_bytes, const Labels& labels,
                                                                             bool create_run) {
  return repository::BeginModulePush(store_, pool_, run, module, size_bytes, labels, create_run,
                                     [this] { collector_.Wake(); });
}

absl::StatusOr<Module> LocalRepository::GetModule(const RunName& run, const std::string& module) {
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto found_run, FindRun(*snapshot, run));
  SCONCE_ASSIGN_OR_RETURN(const auto found, FindModule(*snapshot, found_run.record, module));
  return ToModule(run, found.record);
}

absl::StatusOr<std::shared_ptr<const OpenModule>> LocalRepository::OpenReadModule(const RunName& run,
                                                                                  const std::string& module) {
  return OpenStoredModule(store_, run, module);
}

absl::StatusOr<Page<Module>> LocalRepository::ListModules(const RunName& run, const std::string& start, int64_t limit) {
  SCONCE_RETURN_IF_ERROR(CheckLimit(limit));
  if (!start.empty() && !ValidateId("module", start).ok()) return BadPageStart(start);
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto found_run, FindRun(*snapshot, run));
  const uint64_t run_uid = found_run.record.uid();
  Page<Module> page;
  absl::Status parsed;
  SCONCE_RETURN_IF_ERROR(snapshot->Scan(
      start.empty() ? catalog::ModulePrefix(run_uid) : catalog::ModuleKey(run_uid, start),
      catalog::PrefixEnd(catalog::ModulePrefix(run_uid)), false, [&](absl::string_view, absl::string_view value) {
        const auto record = ParseRecord<records::ModuleRecord>(value);
        parsed = record.status();
        if (!parsed.ok()) return false;
        if (static_cast<int64_t>(page.items.size()) == limit) {
          page.next = record->module();
          return false;
        }
        page.items.push_back(ToModule(run, *record));
        return true;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return page;
}

absl::Status LocalRepository::DeleteModule(const RunName& run, const std::string& module) {
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    const auto snapshot = store_->catalog->Snapshot();
    SCONCE_ASSIGN_OR_RETURN(const auto found_run, FindRun(*snapshot, run));
    SCONCE_ASSIGN_OR_RETURN(const auto found, FindModule(*snapshot, found_run.record, module));
    const records::RunRecord touched = Touched(found_run.record, store_->NowNanos());
    catalog::ChangeSet change;
    change.conditions = {found_run.Unchanged(), found.Unchanged()};
    change.puts.emplace_back(found_run.key, touched.SerializeAsString());
    BuryModule(touched.project_uid(), touched.uid(), found.record, change);
    change.log.push_back(
        ChangeEntry(records::CHANGE_KIND_MODULE_DELETED, touched, 0, module, touched.update_time_ns()));
    return store_->catalog->Apply(change).status();
  }));
  store_->integrity.Refresh(*store_->catalog);
  store_->changes.Notify(run);
  collector_.Wake();
  return absl::OkStatus();
}

absl::Status LocalRepository::PutDeployment(const std::string& model, const std::string& record, bool must_be_new) {
  SCONCE_RETURN_IF_ERROR(ValidateId("model", model));
  catalog::ChangeSet change;
  const std::string key = catalog::DeploymentKey(model);
  if (must_be_new) change.conditions.push_back({key, std::nullopt});
  change.puts.emplace_back(key, record);
  const absl::Status applied = store_->catalog->Apply(change).status();
  if (!catalog::FailedConditionKey(applied)) return applied;
  return MakeError(Reason::MODEL_ALREADY_EXISTS,
                   absl::StrCat("there is a model ", model, "; update it, or choose another name"), {{"model", model}});
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> LocalRepository::ListDeployments() {
  std::vector<std::pair<std::string, std::string>> deployments;
  const std::string prefix = catalog::DeploymentPrefix();
  SCONCE_RETURN_IF_ERROR(store_->catalog->Scan(
      prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        deployments.emplace_back(catalog::ParseDeploymentKey(key).value_or(""), std::string(value));
        return true;
      }));
  return deployments;
}

absl::Status LocalRepository::DeleteDeployment(const std::string& model) {
  SCONCE_RETURN_IF_ERROR(ValidateId("model", model));
  return RetryOnConflict([&]() -> absl::Status {
    const std::string key = catalog::DeploymentKey(model);
    SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> found, store_->catalog->Get(key));
    if (!found) {
      return MakeError(Reason::MODEL_NOT_FOUND,
                       absl::StrCat("there is no model ", model, "; list the models to see what there is"),
                       {{"model", model}});
    }
    catalog::ChangeSet change;
    change.conditions.push_back({key, found});
    change.deletes.push_back(key);
    return store_->catalog->Apply(change).status();
  });
}

}  // namespace sconce::repository
