#include "storage/repository/record_codec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace sconce::repository {
namespace {

std::string Etag(absl::string_view content) {
  return Xxh3(AsBytes(content)).Hex().substr(0, 16);
}

}  // namespace

int64_t ToNanos(absl::Time time) {
  return absl::ToUnixNanos(time);
}
absl::Time FromNanos(int64_t nanos) {
  return absl::FromUnixNanos(nanos);
}

void SetLabels(const Labels& labels, google::protobuf::RepeatedPtrField<records::LabelEntry>& out) {
  out.Clear();
  for (const auto& [key, value] : labels) {
    records::LabelEntry& entry = *out.Add();
    entry.set_key(key);
    entry.set_value(value);
  }
}

Labels GetLabels(const google::protobuf::RepeatedPtrField<records::LabelEntry>& entries) {
  Labels labels;
  for (const records::LabelEntry& entry : entries) labels[entry.key()] = entry.value();
  return labels;
}

void SetMetrics(const Metrics& metrics, records::CheckpointRecord& record) {
  record.clear_metrics();
  for (const auto& [name, value] : metrics) {
    records::MetricEntry& entry = *record.add_metrics();
    entry.set_name(name);
    entry.set_value(value);
  }
}

Metrics GetMetrics(const records::CheckpointRecord& record) {
  Metrics metrics;
  for (const records::MetricEntry& entry : record.metrics()) metrics[entry.name()] = entry.value();
  return metrics;
}

void SetSettings(const Labels& labels, const BestRule& best, const RetentionRule& retention,
                 records::RunSettings& settings) {
  SetLabels(labels, *settings.mutable_labels());
  settings.set_best_metric(best.metric);
  settings.set_best_goal(best.goal == MetricGoal::kMaximize ? records::METRIC_GOAL_MAXIMIZE
                                                            : records::METRIC_GOAL_MINIMIZE);
  settings.set_keep_last(retention.keep_last);
  settings.set_keep_best(retention.keep_best);
  settings.set_keep_every_steps(retention.keep_every_steps);
  settings.set_keep_younger_than_ns(absl::ToInt64Nanoseconds(retention.keep_younger_than));
}

BestRule GetBestRule(const records::RunSettings& settings) {
  return {settings.best_metric(),
          settings.best_goal() == records::METRIC_GOAL_MAXIMIZE ? MetricGoal::kMaximize : MetricGoal::kMinimize};
}

RetentionRule GetRetentionRule(const records::RunSettings& settings) {
  return {settings.keep_last(), settings.keep_best(), settings.keep_every_steps(),
          absl::Nanoseconds(settings.keep_younger_than_ns())};
}

RunName GetName(const records::RunRecord& record) {
  return {record.project(), record.run()};
}

std::string RunEtag(const records::RunRecord& record) {
  return Etag(absl::StrCat(record.uid(), " ", record.settings_generation()));
}
std::string CheckpointEtag(const records::CheckpointRecord& record) {
  return Etag(absl::StrCat(record.create_time_ns(), " ", record.version(), " ", record.generation()));
}
std::string AliasEtag(const records::AliasRecord& record) {
  return Etag(absl::StrCat(record.version(), " ", record.run_generation()));
}

bool IsDamaged(const records::ModuleRecord& record) {
  return record.bad_chunks_size() > 0 || record.manifest_corrupt();
}

Run ToRun(const records::RunRecord& record) {
  Run run;
  run.name = GetName(record);
  run.uid = absl::StrCat(absl::Hex(record.uid(), absl::kZeroPad16));
  run.labels = GetLabels(record.settings().labels());
  run.best_rule = GetBestRule(record.settings());
  run.retention = GetRetentionRule(record.settings());
  run.create_time = FromNanos(record.create_time_ns());
  run.update_time = FromNanos(record.update_time_ns());
  run.checkpoint_count = record.checkpoint_count();
  run.etag = RunEtag(record);
  return run;
}

Checkpoint ToCheckpoint(const RunName& run, const records::CheckpointRecord& record) {
  Checkpoint checkpoint;
  checkpoint.run = run;
  checkpoint.version = record.version();
  checkpoint.kind = record.kind() == records::CHECKPOINT_KIND_OPAQUE ? CheckpointKind::kOpaque : CheckpointKind::kState;
  checkpoint.state = IsQuarantined(record) ? CheckpointState::kQuarantined : CheckpointState::kCommitted;
  if (record.has_epoch()) checkpoint.epoch = record.epoch();
  if (record.has_step()) checkpoint.step = record.step();
  checkpoint.metrics = GetMetrics(record);
  checkpoint.labels = GetLabels(record.labels());
  checkpoint.parent = record.parent();
  checkpoint.logical_bytes = record.logical_bytes();
  checkpoint.stored_bytes = record.stored_bytes();
  checkpoint.deduplicated_bytes = record.deduplicated_bytes();
  checkpoint.tensor_count = record.tensor_count();
  checkpoint.manifest_bytes = record.manifest().size_bytes();
  Digest::FromBytes(record.manifest().digest(), checkpoint.manifest_digest);
  checkpoint.create_time = FromNanos(record.create_time_ns());
  if (record.has_expire_time_ns()) checkpoint.expire_time = FromNanos(record.expire_time_ns());
  checkpoint.pinned = record.pinned();
  checkpoint.etag = CheckpointEtag(record);
  return checkpoint;
}

Module ToModule(const RunName& run, const records::ModuleRecord& record) {
  Module module;
  module.run = run;
  module.module = record.module();
  module.size_bytes = record.size_bytes();
  Digest::FromBytes(record.digest(), module.digest);
  module.create_time = FromNanos(record.create_time_ns());
  module.labels = GetLabels(record.labels());
  return module;
}

Alias ToAlias(const RunName& run, const std::string& alias, const records::AliasRecord& record) {
  return {run, alias, record.version(), FromNanos(record.update_time_ns()), AliasEtag(record)};
}

blob::BlobId ToBlobId(uint64_t project_uid, absl::string_view raw) {
  blob::BlobId id;
  id.project_uid = project_uid;
  if (raw.size() == id.id.size()) std::copy(raw.begin(), raw.end(), id.id.begin());
  return id;
}

std::string RawId(const blob::BlobId& id) {
  return std::string(AsText(ByteSpan(id.id)));
}

std::string ChangeEntry(records::ChangeKind kind, const records::RunRecord& run, int64_t version,
                        absl::string_view name, int64_t now_ns, records::DeletionCause cause) {
  records::ChangeRecord change;
  change.set_kind(kind);
  change.set_run_uid(run.uid());
  change.set_project(run.project());
  change.set_run(run.run());
  change.set_version(version);
  change.set_name(name.data(), name.size());
  change.set_time_ns(now_ns);
  change.set_cause(cause);
  return change.SerializeAsString();
}

}  // namespace sconce::repository
