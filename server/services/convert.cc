#include "server/services/convert.h"

#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "proto/wire/limits.h"

namespace sconce::services {
namespace {

absl::Status FieldError(absl::string_view field, absl::string_view what) {
  return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat(field, ": ", what), {{"field", std::string(field)}});
}

// Keys and values are shown, logged and matched: no control characters.
bool IsPrintable(absl::string_view s) {
  for (const char c : s) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

// What Timestamp can say, years 1 to 9999.
constexpr int64_t kMinSeconds = -62135596800;
constexpr int64_t kMaxSeconds = 253402300799;

}  // namespace

google::protobuf::Timestamp TimeToProto(absl::Time time) {
  google::protobuf::Timestamp proto;
  const absl::Duration since_epoch = time - absl::UnixEpoch();
  int64_t seconds = absl::ToInt64Seconds(absl::Floor(since_epoch, absl::Seconds(1)));
  proto.set_seconds(seconds);
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(since_epoch - absl::Seconds(seconds))));
  return proto;
}

absl::StatusOr<absl::Time> TimeFromProto(absl::string_view field, const google::protobuf::Timestamp& time) {
  if (time.seconds() < kMinSeconds || time.seconds() > kMaxSeconds || time.nanos() < 0 || time.nanos() > 999999999) {
    return FieldError(field, "this is no valid time; years are 1 to 9999, nanos 0 to 999,999,999");
  }
  return absl::UnixEpoch() + absl::Seconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

v1::Run ToProto(const repository::Run& run) {
  v1::Run proto;
  proto.set_name(wire::FormatRun(run.name.project, run.name.run));
  proto.set_uid(run.uid);
  proto.mutable_labels()->insert(run.labels.begin(), run.labels.end());
  proto.mutable_best_rule()->set_metric(run.best_rule.metric);
  proto.mutable_best_rule()->set_goal(run.best_rule.goal == repository::MetricGoal::kMaximize ? v1::BestRule::MAXIMIZE
                                                                                              : v1::BestRule::MINIMIZE);
  const repository::RetentionRule& keep = run.retention;
  if (keep.keep_last != 0 || keep.keep_best != 0 || keep.keep_every_steps != 0 ||
      keep.keep_younger_than != absl::ZeroDuration()) {
    v1::RetentionPolicy& policy = *proto.mutable_retention();
    policy.set_keep_last(keep.keep_last);
    policy.set_keep_best(keep.keep_best);
    policy.set_keep_every_steps(keep.keep_every_steps);
    if (keep.keep_younger_than != absl::ZeroDuration()) {
      policy.mutable_keep_younger_than()->set_seconds(absl::ToInt64Seconds(keep.keep_younger_than));
      policy.mutable_keep_younger_than()->set_nanos(
          static_cast<int32_t>(absl::ToInt64Nanoseconds(keep.keep_younger_than % absl::Seconds(1))));
    }
  }
  *proto.mutable_create_time() = TimeToProto(run.create_time);
  *proto.mutable_update_time() = TimeToProto(run.update_time);
  proto.set_checkpoint_count(run.checkpoint_count);
  proto.set_latest_version(run.latest_version);
  proto.set_best_version(run.best_version);
  proto.set_etag(run.etag);
  return proto;
}

v1::Checkpoint ToProto(const repository::Checkpoint& checkpoint) {
  v1::Checkpoint proto;
  proto.set_name(wire::FormatCheckpoint(checkpoint.run.project, checkpoint.run.run, absl::StrCat(checkpoint.version)));
  proto.set_version(checkpoint.version);
  proto.set_kind(checkpoint.kind == repository::CheckpointKind::kOpaque ? v1::Checkpoint::OPAQUE
                                                                        : v1::Checkpoint::STATE);
  proto.set_state(checkpoint.state == repository::CheckpointState::kQuarantined ? v1::Checkpoint::QUARANTINED
                                                                                : v1::Checkpoint::COMMITTED);
  if (checkpoint.epoch.has_value()) proto.set_epoch(*checkpoint.epoch);
  if (checkpoint.step.has_value()) proto.set_step(*checkpoint.step);
  proto.mutable_metrics()->insert(checkpoint.metrics.begin(), checkpoint.metrics.end());
  proto.mutable_labels()->insert(checkpoint.labels.begin(), checkpoint.labels.end());
  proto.set_parent_version(checkpoint.parent);
  proto.set_logical_bytes(checkpoint.logical_bytes);
  proto.set_stored_bytes(checkpoint.stored_bytes);
  proto.set_deduplicated_bytes(checkpoint.deduplicated_bytes);
  proto.set_tensor_count(checkpoint.tensor_count);
  proto.set_manifest_bytes(checkpoint.manifest_bytes);
  proto.set_manifest_sha256(checkpoint.manifest_digest.Hex());
  *proto.mutable_create_time() = TimeToProto(checkpoint.create_time);
  if (checkpoint.expire_time.has_value()) *proto.mutable_expire_time() = TimeToProto(*checkpoint.expire_time);
  proto.set_pinned(checkpoint.pinned);
  *proto.mutable_aliases() = {checkpoint.aliases.begin(), checkpoint.aliases.end()};
  proto.set_etag(checkpoint.etag);
  return proto;
}

v1::Module ToProto(const repository::Module& module) {
  v1::Module proto;
  proto.set_name(wire::FormatModule(module.run.project, module.run.run, module.module));
  proto.set_size_bytes(module.size_bytes);
  proto.set_sha256(module.digest.Hex());
  proto.mutable_labels()->insert(module.labels.begin(), module.labels.end());
  *proto.mutable_create_time() = TimeToProto(module.create_time);
  return proto;
}

v1::Alias ToProto(const repository::Alias& alias) {
  v1::Alias proto;
  proto.set_name(wire::FormatAlias(alias.run.project, alias.run.run, alias.alias));
  proto.set_version(alias.version);
  *proto.mutable_update_time() = TimeToProto(alias.update_time);
  proto.set_etag(alias.etag);
  return proto;
}

repository::RunName ToRunName(const wire::RunRef& ref) {
  return {ref.project, ref.run};
}

absl::StatusOr<repository::CheckpointRef> CheckpointRefFromName(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(wire::ChildRef ref, wire::ParseCheckpoint(name));
  return repository::CheckpointRef{ToRunName(ref.run), ref.id};
}

absl::StatusOr<repository::RunName> RunFromName(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(wire::RunRef ref, wire::ParseRun(name));
  return ToRunName(ref);
}

absl::StatusOr<repository::Labels> LabelsFromProto(const google::protobuf::Map<std::string, std::string>& labels) {
  if (labels.size() > wire::kMaxLabels) {
    return FieldError("labels", absl::StrCat("there are ", labels.size(), "; give at most ", wire::kMaxLabels));
  }
  for (const auto& [key, value] : labels) {
    if (key.empty() || key.size() > wire::kMaxLabelKeyBytes || !IsPrintable(key)) {
      return FieldError("labels", absl::StrCat("key ", Quoted(key), " must be 1 to ", wire::kMaxLabelKeyBytes,
                                               " bytes without control characters"));
    }
    if (value.size() > wire::kMaxLabelValueBytes || !IsPrintable(value)) {
      return FieldError("labels", absl::StrCat("the value of ", Quoted(key), " must be at most ",
                                               wire::kMaxLabelValueBytes, " bytes without control characters"));
    }
  }
  return repository::Labels(labels.begin(), labels.end());
}

absl::StatusOr<repository::Metrics> MetricsFromProto(const google::protobuf::Map<std::string, double>& metrics) {
  if (metrics.size() > wire::kMaxMetrics) {
    return FieldError("metrics", absl::StrCat("there are ", metrics.size(), "; give at most ", wire::kMaxMetrics));
  }
  for (const auto& [name, value] : metrics) {
    if (name.empty() || name.size() > wire::kMaxMetricNameBytes || !IsPrintable(name)) {
      return FieldError("metrics", absl::StrCat("name ", Quoted(name), " must be 1 to ", wire::kMaxMetricNameBytes,
                                                " bytes without control characters"));
    }
  }
  return repository::Metrics(metrics.begin(), metrics.end());
}

absl::StatusOr<repository::BestRule> FromProto(const v1::BestRule& rule) {
  repository::BestRule result;
  if (!rule.metric().empty()) result.metric = rule.metric();
  if (result.metric.size() > wire::kMaxMetricNameBytes || !IsPrintable(result.metric)) {
    return FieldError("best_rule.metric",
                      absl::StrCat("must be at most ", wire::kMaxMetricNameBytes, " bytes without control characters"));
  }
  switch (rule.goal()) {
    case v1::BestRule::GOAL_UNSPECIFIED:
    case v1::BestRule::MINIMIZE:
      result.goal = repository::MetricGoal::kMinimize;
      break;
    case v1::BestRule::MAXIMIZE:
      result.goal = repository::MetricGoal::kMaximize;
      break;
    default:
      return FieldError("best_rule.goal", "must be MINIMIZE or MAXIMIZE");
  }
  return result;
}

absl::StatusOr<repository::RetentionRule> FromProto(const v1::RetentionPolicy& policy) {
  repository::RetentionRule rule;
  rule.keep_last = policy.keep_last();
  rule.keep_best = policy.keep_best();
  rule.keep_every_steps = policy.keep_every_steps();
  const google::protobuf::Duration& younger = policy.keep_younger_than();
  rule.keep_younger_than = absl::Seconds(younger.seconds()) + absl::Nanoseconds(younger.nanos());
  if (rule.keep_last < 0 || rule.keep_best < 0 || rule.keep_every_steps < 0 ||
      rule.keep_younger_than < absl::ZeroDuration()) {
    return FieldError("retention", "must not be negative; 0 means no such rule");
  }
  return rule;
}

absl::StatusOr<std::string> RequestIdFromProto(const std::string& request_id) {
  bool good = request_id.size() <= 128;
  for (const char c : request_id) good = good && absl::ascii_isgraph(static_cast<unsigned char>(c));
  if (good) return request_id;
  return FieldError("request_id", "must be at most 128 printable bytes without spaces, such as a UUID");
}

}  // namespace sconce::services
