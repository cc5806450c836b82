// Runs.
#include <set>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "server/services/checkpoint_calls.h"
#include "server/services/convert.h"
#include "server/services/paging.h"
#include "server/services/update_mask.h"

namespace sconce::services {
namespace {

constexpr absl::string_view kUpdatable[] = {"labels", "best_rule", "retention"};
constexpr absl::string_view kOutputOnly[] = {
    "name", "uid", "create_time", "update_time", "checkpoint_count", "latest_version", "best_version", "etag"};

std::set<std::string> Populated(const v1::Run& run) {
  std::set<std::string> fields;
  if (!run.labels().empty()) fields.insert("labels");
  if (run.has_best_rule()) fields.insert("best_rule");
  if (run.has_retention()) fields.insert("retention");
  return fields;
}

}  // namespace

absl::Status CreateRun(Repository& repository, CallScope& scope, const v1::CreateRunRequest& request, v1::Run& run) {
  SCONCE_ASSIGN_OR_RETURN(const std::string project, wire::ParseProject(request.parent()));
  SCONCE_RETURN_IF_ERROR(wire::CheckId("run", request.run_id()));
  SCONCE_ASSIGN_OR_RETURN(const repository::Labels labels, LabelsFromProto(request.run().labels()));
  SCONCE_ASSIGN_OR_RETURN(const repository::BestRule best, FromProto(request.run().best_rule()));
  SCONCE_ASSIGN_OR_RETURN(const repository::RetentionRule retention, FromProto(request.run().retention()));
  SCONCE_ASSIGN_OR_RETURN(const std::string request_id, RequestIdFromProto(request.request_id()));
  scope.SetResource(wire::FormatRun(project, request.run_id()));
  SCONCE_ASSIGN_OR_RETURN(const repository::Run created,
                          repository.CreateRun({project, request.run_id()}, labels, best, retention,
                                               {scope.principal(), "CreateRun", request_id}));
  run = ToProto(created);
  return absl::OkStatus();
}

absl::Status GetRun(Repository& repository, CallScope& scope, const v1::GetRunRequest& request, v1::Run& run) {
  SCONCE_ASSIGN_OR_RETURN(const repository::RunName name, RunFromName(request.name()));
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const repository::Run found, repository.GetRun(name));
  run = ToProto(found);
  return absl::OkStatus();
}

absl::Status ListRuns(Repository& repository, CallScope& scope, const v1::ListRunsRequest& request,
                      v1::ListRunsResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(const std::string project, wire::ParseProjectFilter(request.parent()));
  scope.SetResource(request.parent());
  return FillPage(request, response.mutable_runs(), response.mutable_next_page_token(),
                  [&](const std::string& start, int64_t limit) { return repository.ListRuns(project, start, limit); });
}

absl::Status UpdateRun(Repository& repository, CallScope& scope, const v1::UpdateRunRequest& request, v1::Run& run) {
  SCONCE_ASSIGN_OR_RETURN(const repository::RunName name, RunFromName(request.run().name()));
  SCONCE_ASSIGN_OR_RETURN(const std::set<std::string> fields,
                          FieldsToUpdate(request.update_mask(), kUpdatable, kOutputOnly, Populated(request.run())));
  repository::RunUpdate update;
  update.etag = request.run().etag();
  if (fields.count("labels") > 0) {
    SCONCE_ASSIGN_OR_RETURN(update.labels, LabelsFromProto(request.run().labels()));
  }
  if (fields.count("best_rule") > 0) {
    SCONCE_ASSIGN_OR_RETURN(update.best_rule, FromProto(request.run().best_rule()));
  }
  if (fields.count("retention") > 0) {
    SCONCE_ASSIGN_OR_RETURN(update.retention, FromProto(request.run().retention()));
  }
  scope.SetResource(request.run().name());
  SCONCE_ASSIGN_OR_RETURN(const repository::Run updated, repository.UpdateRun(name, update));
  run = ToProto(updated);
  return absl::OkStatus();
}

absl::Status DeleteRun(Repository& repository, CallScope& scope, const v1::DeleteRunRequest& request,
                       google::protobuf::Empty&) {
  SCONCE_ASSIGN_OR_RETURN(const repository::RunName name, RunFromName(request.name()));
  scope.SetResource(request.name());
  const absl::Status status = repository.DeleteRun(name, request.etag(), request.force());
  return request.allow_missing() && absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace sconce::services
