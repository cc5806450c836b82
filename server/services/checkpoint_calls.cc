#include "server/services/checkpoint_calls.h"

#include <set>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "server/services/convert.h"
#include "server/services/paging.h"
#include "server/services/update_mask.h"

// Versions: everything about them but their content.
namespace sconce::services {
namespace {

constexpr absl::string_view kUpdatable[] = {"labels", "pinned", "expire_time", "metrics"};
constexpr absl::string_view kOutputOnly[] = {"name",
                                             "version",
                                             "kind",
                                             "state",
                                             "logical_bytes",
                                             "stored_bytes",
                                             "deduplicated_bytes",
                                             "tensor_count",
                                             "manifest_bytes",
                                             "manifest_sha256",
                                             "create_time",
                                             "aliases",
                                             "etag"};

std::set<std::string> Populated(const v1::Checkpoint& checkpoint) {
  std::set<std::string> fields;
  if (!checkpoint.labels().empty()) fields.insert("labels");
  if (checkpoint.pinned()) fields.insert("pinned");
  if (checkpoint.has_expire_time()) fields.insert("expire_time");
  if (!checkpoint.metrics().empty()) fields.insert("metrics");
  return fields;
}

}  // namespace

absl::Status GetCheckpoint(Repository& repository, CallScope& scope, const v1::GetCheckpointRequest& request,
                           v1::Checkpoint& checkpoint) {
  SCONCE_ASSIGN_OR_RETURN(const repository::CheckpointRef ref, CheckpointRefFromName(request.name()));
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const repository::Checkpoint found, repository.GetCheckpoint(ref));
  checkpoint = ToProto(found);
  scope.SetResource(checkpoint.name());
  return absl::OkStatus();
}

absl::Status ListCheckpoints(Repository& repository, CallScope& scope, const v1::ListCheckpointsRequest& request,
                             v1::ListCheckpointsResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(const repository::RunName run, RunFromName(request.parent()));
  scope.SetResource(request.parent());
  SCONCE_ASSIGN_OR_RETURN(const repository::CheckpointQuery query,
                          repository::ParseCheckpointQuery(request.filter(), request.order_by()));
  return FillPage(
      request, response.mutable_checkpoints(), response.mutable_next_page_token(),
      [&](const std::string& start, int64_t limit) { return repository.ListCheckpoints(run, query, start, limit); });
}

absl::Status UpdateCheckpoint(Repository& repository, CallScope& scope, const v1::UpdateCheckpointRequest& request,
                              v1::Checkpoint& checkpoint) {
  const v1::Checkpoint& given = request.checkpoint();
  SCONCE_ASSIGN_OR_RETURN(const repository::CheckpointRef ref, CheckpointRefFromName(given.name()));
  SCONCE_ASSIGN_OR_RETURN(const std::set<std::string> fields,
                          FieldsToUpdate(request.update_mask(), kUpdatable, kOutputOnly, Populated(given)));
  repository::CheckpointUpdate update;
  update.etag = given.etag();
  if (fields.count("labels") > 0) {
    SCONCE_ASSIGN_OR_RETURN(update.labels, LabelsFromProto(given.labels()));
  }
  if (fields.count("pinned") > 0) update.pinned = given.pinned();
  if (fields.count("expire_time") > 0) {
    std::optional<absl::Time> expire_time;
    if (given.has_expire_time()) {
      SCONCE_ASSIGN_OR_RETURN(expire_time, TimeFromProto("expire_time", given.expire_time()));
    }
    update.expire_time = expire_time;
  }
  if (fields.count("metrics") > 0) {
    SCONCE_ASSIGN_OR_RETURN(update.add_metrics, MetricsFromProto(given.metrics()));
  }
  scope.SetResource(given.name());
  SCONCE_ASSIGN_OR_RETURN(const repository::Checkpoint updated, repository.UpdateCheckpoint(ref, update));
  checkpoint = ToProto(updated);
  scope.SetResource(checkpoint.name());
  return absl::OkStatus();
}

absl::Status DeleteCheckpoint(Repository& repository, CallScope& scope, const v1::DeleteCheckpointRequest& request,
                              google::protobuf::Empty&) {
  SCONCE_ASSIGN_OR_RETURN(const repository::CheckpointRef ref, CheckpointRefFromName(request.name()));
  scope.SetResource(request.name());
  const absl::Status status =
      repository.DeleteCheckpoint(ref, request.etag(), request.force(), request.validate_only());
  return request.allow_missing() && absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace sconce::services
