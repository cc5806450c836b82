#include "storage/repository/version_records.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/version_index.h"
#include "storage/format/attributes.h"
#include "storage/repository/best_rule.h"
#include "storage/repository/lookup.h"
#include "storage/repository/names.h"
#include "storage/repository/request_ids.h"
#include "storage/repository/retirement.h"
#include "storage/repository/run_creation.h"

namespace sconce::repository {
namespace {

int64_t LogicalBytes(const format::Manifest& manifest) {
  int64_t bytes = 0;
  for (const format::Storage& storage : manifest.storages) {
    if (!format::IsMetaDevice(storage.device)) bytes += storage.size_bytes;
  }
  return bytes;
}

}  // namespace

absl::Status CheckPushOptions(const PushOptions& options) {
  SCONCE_RETURN_IF_ERROR(ValidateRunName(options.run));
  SCONCE_RETURN_IF_ERROR(ValidateLabels(options.labels));
  SCONCE_RETURN_IF_ERROR(ValidateMetrics(options.metrics));
  if (options.parent < 0) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("the parent version is ", options.parent,
                                                            "; it must be a version, or 0 when there is none"));
  }
  return absl::OkStatus();
}

absl::Status CheckPushManifest(const PushOptions& options, const format::Manifest& manifest) {
  SCONCE_RETURN_IF_ERROR(format::Validate(manifest));
  const bool bare = manifest.nodes.size() == 1 && manifest.nodes[0].kind == format::NodeKind::kStorage;
  if (options.kind == CheckpointKind::kOpaque && !bare) {
    return MakeError(Reason::MANIFEST_INVALID, "the manifest of an opaque checkpoint is a single bare storage");
  }
  return absl::OkStatus();
}

absl::StatusOr<Attributes> AttributesOf(const PushOptions& options, const format::Manifest& manifest) {
  format::TreeAttributes tree;
  if (options.kind == CheckpointKind::kState) tree = format::ExtractAttributes(manifest);
  return MergeAttributes(options, tree);
}

records::CheckpointRecord NewCheckpointRecord(const PushOptions& options, const Attributes& attributes,
                                              const format::Manifest& manifest, const StoredSizes& sizes,
                                              int64_t version, int64_t now_ns) {
  records::CheckpointRecord record;
  record.set_version(version);
  record.set_kind(options.kind == CheckpointKind::kOpaque ? records::CHECKPOINT_KIND_OPAQUE
                                                          : records::CHECKPOINT_KIND_STATE);
  if (attributes.epoch) record.set_epoch(*attributes.epoch);
  if (attributes.step) record.set_step(*attributes.step);
  SetMetrics(attributes.metrics, record);
  SetLabels(options.labels, *record.mutable_labels());
  record.set_parent(options.parent);
  record.set_pinned(options.pinned);
  if (options.expire_time) record.set_expire_time_ns(ToNanos(*options.expire_time));
  record.set_logical_bytes(LogicalBytes(manifest));
  record.set_stored_bytes(sizes.stored_bytes);
  record.set_deduplicated_bytes(sizes.deduplicated_bytes);
  record.set_tensor_count(static_cast<int64_t>(manifest.tensors.size()));
  record.set_create_time_ns(now_ns);
  record.set_generation(1);
  return record;
}

records::FooterRecord NewFooter(const PushOptions& options, uint64_t run_uid, const Digest* body) {
  records::FooterRecord footer;
  footer.set_project(options.run.project);
  footer.set_run(options.run.run);
  footer.set_run_uid(run_uid);
  footer.set_request_id(options.request.request_id);
  footer.set_principal(options.request.principal);
  footer.set_request_method(options.request.method);
  if (body != nullptr && !options.request.request_id.empty()) {
    footer.set_request_body(body->AsKey().data(), body->AsKey().size());
  }
  return footer;
}

records::FooterRecord NewFooter(const records::RunRecord& run) {
  records::FooterRecord footer;
  footer.set_project(run.project());
  footer.set_run(run.run());
  footer.set_run_uid(run.uid());
  return footer;
}

absl::StatusOr<Checkpoint> AnswerOf(const Store& store, const RunName& run, const records::RequestRecord& answered) {
  SCONCE_ASSIGN_OR_RETURN(const auto found,
                          ReadRecord<records::CheckpointRecord>(
                              *store.catalog, catalog::CheckpointKey(answered.run_uid(), answered.version())));
  if (found) return ToCheckpoint(run, found->record);
  return MakeError(Reason::CHECKPOINT_NOT_FOUND,
                   absl::StrCat("this request committed version ", answered.version(), " of run ", Display(run),
                                ", which was deleted since; use a new request id to push again"),
                   {{"run", Display(run)}, {"version", absl::StrCat(answered.version())}});
}

absl::StatusOr<bool> AddVersion(Store& store, const PushOptions& options, uint64_t project_uid, uint64_t run_uid,
                                const records::CheckpointRecord& record, const Digest& body,
                                std::optional<records::RequestRecord>& first, catalog::ChangeSet& change) {
  records::RequestRecord answer;
  answer.set_run_uid(run_uid);
  answer.set_version(record.version());
  SCONCE_ASSIGN_OR_RETURN(first, ClaimRequest(*store.catalog, project_uid, options.request, body, store.NowNanos(),
                                              std::move(answer), change));
  if (first) return false;
  SCONCE_ASSIGN_OR_RETURN(const auto run, ReadRecord<records::RunRecord>(*store.catalog, catalog::RunKey(run_uid)));
  if (!run) return RunNotFound(options.run);  // deleted while the push was under way
  records::RunRecord touched = Touched(run->record, record.create_time_ns());
  touched.set_checkpoint_count(touched.checkpoint_count() + 1);
  change.conditions.push_back(run->Unchanged());
  change.puts.emplace_back(catalog::CheckpointKey(run_uid, record.version()), record.SerializeAsString());
  catalog::Reindex(run_uid, nullptr, &record, change);
  change.log.push_back(
      ChangeEntry(records::CHANGE_KIND_CHECKPOINT_COMMITTED, touched, record.version(), "", record.create_time_ns()));
  SCONCE_RETURN_IF_ERROR(
      LogBestMove(*store.catalog, GetBestRule(touched.settings()), touched, record.create_time_ns(), change));
  SCONCE_RETURN_IF_ERROR(RetireInCommit(store, record, touched, change));
  change.puts.emplace_back(run->key, touched.SerializeAsString());
  return true;
}

}  // namespace sconce::repository
