#include "storage/repository/push.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/attributes.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/attributes.h"
#include "storage/repository/commit.h"
#include "storage/repository/lookup.h"
#include "storage/repository/names.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/request_ids.h"
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

class LocalCheckpointPush final : public CheckpointPush {
 public:
  LocalCheckpointPush(std::shared_ptr<Store> store, std::unique_ptr<IngestPool::Slot> slot, PushOptions options,
                      Attributes attributes, uint64_t project_uid, std::unique_ptr<Ingest> ingest)
      : store_(std::move(store)),
        slot_(std::move(slot)),
        options_(std::move(options)),
        attributes_(std::move(attributes)),
        project_uid_(project_uid),
        ingest_(std::move(ingest)) {}

  absl::Status Write(ByteSpan bytes) override { return ingest_->Write(bytes); }
  int64_t received_bytes() const override { return ingest_->received_bytes(); }
  int64_t expected_bytes() const override { return ingest_->expected_bytes(); }

  absl::StatusOr<Checkpoint> Commit() override {
    SCONCE_RETURN_IF_ERROR(ingest_->Finish());
    const std::string manifest = format::EncodeManifest(ingest_->manifest());
    const Digest body = PushBody(options_, Sha256(AsBytes(manifest)));
    // Asked again in the batch; asking here too spares a retry its version number and its blob.
    catalog::ChangeSet unused;
    SCONCE_ASSIGN_OR_RETURN(const auto answered, Claim(body, {}, unused));
    if (answered) return Answer(*answered);

    SCONCE_ASSIGN_OR_RETURN(const Reservation reserved,
                            ReserveVersion(*store_, options_.run, project_uid_, options_.create_run));
    records::CheckpointRecord record = MakeRecord(static_cast<int64_t>(reserved.number));
    SCONCE_RETURN_IF_ERROR(SealObject(*ingest_, manifest, [&](const records::ManifestLocation& location) {
                             *record.mutable_manifest() = location;
                             return MakeFooter(reserved.run_uid, record);
                           }).status());

    std::optional<records::RequestRecord> first;
    const catalog::Owner owner{catalog::Owner::Kind::kVersion, reserved.run_uid, reserved.number};
    const auto finish = [&](catalog::ChangeSet& change) { return AddRecords(reserved, record, body, first, change); };
    SCONCE_ASSIGN_OR_RETURN(const bool committed,
                            CommitObject(*store_, *ingest_, project_uid_, owner, record.manifest(), finish));
    if (!committed) return Answer(*first);
    store_->changes.Notify(options_.run);
    return ToCheckpoint(options_.run, record);
  }

 private:
  absl::StatusOr<std::optional<records::RequestRecord>> Claim(const Digest& body, records::RequestRecord answer,
                                                              catalog::ChangeSet& change) {
    return ClaimRequest(*store_->catalog, project_uid_, options_.request, body, store_->NowNanos(), std::move(answer),
                        change);
  }

  // The version that the same request committed before.
  absl::StatusOr<Checkpoint> Answer(const records::RequestRecord& answered) {
    SCONCE_ASSIGN_OR_RETURN(const auto found,
                            ReadRecord<records::CheckpointRecord>(
                                *store_->catalog, catalog::CheckpointKey(answered.run_uid(), answered.version())));
    if (found) return ToCheckpoint(options_.run, found->record);
    return MakeError(
        Reason::CHECKPOINT_NOT_FOUND,
        absl::StrCat("this request committed version ", answered.version(), " of run ", Display(options_.run),
                     ", which was deleted since; use a new request id to push again"),
        {{"run", Display(options_.run)}, {"version", absl::StrCat(answered.version())}});
  }

  records::CheckpointRecord MakeRecord(int64_t version) {
    records::CheckpointRecord record;
    record.set_version(version);
    record.set_kind(options_.kind == CheckpointKind::kOpaque ? records::CHECKPOINT_KIND_OPAQUE
                                                             : records::CHECKPOINT_KIND_STATE);
    if (attributes_.epoch) record.set_epoch(*attributes_.epoch);
    if (attributes_.step) record.set_step(*attributes_.step);
    SetMetrics(attributes_.metrics, record);
    SetLabels(options_.labels, *record.mutable_labels());
    record.set_parent(options_.parent);
    record.set_pinned(options_.pinned);
    record.set_logical_bytes(LogicalBytes(ingest_->manifest()));
    record.set_stored_bytes(ingest_->stored_bytes());
    record.set_deduplicated_bytes(ingest_->deduplicated_bytes());
    record.set_tensor_count(static_cast<int64_t>(ingest_->manifest().tensors.size()));
    record.set_create_time_ns(store_->NowNanos());
    record.set_generation(1);
    return record;
  }

  records::FooterRecord MakeFooter(uint64_t run_uid, const records::CheckpointRecord& record) const {
    records::FooterRecord footer;
    footer.set_project(options_.run.project);
    footer.set_run(options_.run.run);
    footer.set_run_uid(run_uid);
    *footer.mutable_checkpoint() = record;
    footer.set_request_id(options_.request.request_id);
    footer.set_principal(options_.request.principal);
    return footer;
  }

  // What names the version: its record, the metric index, the run's counters, the request id, the change log. False
  // when another push of the same request came first; `first` is its answer then.
  absl::StatusOr<bool> AddRecords(const Reservation& reserved, const records::CheckpointRecord& record,
                                  const Digest& body, std::optional<records::RequestRecord>& first,
                                  catalog::ChangeSet& change) {
    records::RequestRecord answer;
    answer.set_run_uid(reserved.run_uid);
    answer.set_version(record.version());
    SCONCE_ASSIGN_OR_RETURN(first, Claim(body, std::move(answer), change));
    if (first) return false;
    SCONCE_ASSIGN_OR_RETURN(const auto run,
                            ReadRecord<records::RunRecord>(*store_->catalog, catalog::RunKey(reserved.run_uid)));
    if (!run) return RunNotFound(options_.run);  // deleted while the push was under way
    records::RunRecord touched = Touched(run->record, record.create_time_ns());
    touched.set_checkpoint_count(touched.checkpoint_count() + 1);
    change.conditions.push_back(run->Unchanged());
    change.puts.emplace_back(run->key, touched.SerializeAsString());
    change.puts.emplace_back(catalog::CheckpointKey(reserved.run_uid, record.version()), record.SerializeAsString());
    for (std::string& key : MetricKeys(reserved.run_uid, record)) change.puts.emplace_back(std::move(key), "");
    change.log.push_back(
        ChangeEntry(records::CHANGE_KIND_CHECKPOINT_COMMITTED, touched, record.version(), "", record.create_time_ns()));
    return true;
  }

  const std::shared_ptr<Store> store_;
  const std::unique_ptr<IngestPool::Slot> slot_;  // before ingest_: a push ends when its work has
  const PushOptions options_;
  const Attributes attributes_;
  const uint64_t project_uid_;
  const std::unique_ptr<Ingest> ingest_;
};

absl::Status CheckOptions(const PushOptions& options, const format::Manifest& manifest) {
  SCONCE_RETURN_IF_ERROR(ValidateRunName(options.run));
  SCONCE_RETURN_IF_ERROR(ValidateLabels(options.labels));
  SCONCE_RETURN_IF_ERROR(ValidateMetrics(options.metrics));
  if (options.parent < 0) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("the parent version is ", options.parent,
                                                            "; it must be a version, or 0 when there is none"));
  }
  SCONCE_RETURN_IF_ERROR(format::Validate(manifest));
  const bool bare = manifest.nodes.size() == 1 && manifest.nodes[0].kind == format::NodeKind::kStorage;
  if (options.kind == CheckpointKind::kOpaque && !bare) {
    return MakeError(Reason::MANIFEST_INVALID, "the manifest of an opaque checkpoint is a single bare storage");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRoom(const Store& store, int64_t size_bytes) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t free, store.options.file_system->FreeBytes(store.options.data_dir));
  if (free - size_bytes >= store.options.min_free_bytes) return absl::OkStatus();
  return MakeError(Reason::DISK_FULL,
                   absl::StrCat("the disk has ", HumanBytes(free), " left, of which ",
                                HumanBytes(store.options.min_free_bytes), " are kept in reserve: there is no room for ",
                                HumanBytes(size_bytes), "; delete checkpoints or free space"),
                   {{"free_bytes", absl::StrCat(free)}, {"needed_bytes", absl::StrCat(size_bytes)}});
}

absl::StatusOr<std::unique_ptr<CheckpointPush>> BeginCheckpointPush(std::shared_ptr<Store> store, IngestPool& pool,
                                                                    const PushOptions& options,
                                                                    format::Manifest manifest,
                                                                    std::function<void()> ended) {
  SCONCE_RETURN_IF_ERROR(CheckOptions(options, manifest));
  format::TreeAttributes tree;
  if (options.kind == CheckpointKind::kState) tree = format::ExtractAttributes(manifest);
  SCONCE_ASSIGN_OR_RETURN(Attributes attributes, MergeAttributes(options, tree));
  if (!options.create_run) SCONCE_RETURN_IF_ERROR(FindRun(*store->catalog, options.run).status());
  SCONCE_RETURN_IF_ERROR(CheckRoom(*store, 0));
  SCONCE_ASSIGN_OR_RETURN(auto slot, pool.BeginPush(std::move(ended)));
  SCONCE_ASSIGN_OR_RETURN(const uint64_t project_uid, EnsureProject(*store, options.run.project));
  SCONCE_ASSIGN_OR_RETURN(auto writer, store->blobs->Create(project_uid));
  auto ingest = std::make_unique<Ingest>(*store, pool, project_uid, std::move(writer), std::move(manifest));
  return std::make_unique<LocalCheckpointPush>(std::move(store), std::move(slot), options, std::move(attributes),
                                               project_uid, std::move(ingest));
}

}  // namespace sconce::repository
