#include "storage/repository/push.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/attributes.h"
#include "storage/repository/commit.h"
#include "storage/repository/lookup.h"
#include "storage/repository/request_ids.h"
#include "storage/repository/run_creation.h"
#include "storage/repository/version_records.h"

namespace sconce::repository {
namespace {

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
    if (answered) return AnswerOf(*store_, options_.run, *answered);

    SCONCE_ASSIGN_OR_RETURN(const Reservation reserved,
                            ReserveVersion(*store_, options_.run, project_uid_, options_.create_run));
    records::CheckpointRecord record = NewCheckpointRecord(options_, attributes_, ingest_->manifest(),
                                                           {ingest_->stored_bytes(), ingest_->deduplicated_bytes()},
                                                           static_cast<int64_t>(reserved.number), store_->NowNanos());
    SCONCE_RETURN_IF_ERROR(SealObject(*ingest_, AsBytes(manifest), [&](const records::ManifestLocation& location) {
                             *record.mutable_manifest() = location;
                             records::FooterRecord footer = NewFooter(options_, reserved.run_uid, &body);
                             *footer.mutable_checkpoint() = record;
                             return footer;
                           }).status());

    std::optional<records::RequestRecord> first;
    const catalog::Owner owner{catalog::Owner::Kind::kVersion, reserved.run_uid, reserved.number};
    const auto finish = [&](catalog::ChangeSet& change) {
      return AddVersion(*store_, options_, project_uid_, reserved.run_uid, record, body, first, change);
    };
    const ObjectContents contents{ingest_->chunks(), {ingest_->writer().id()}, AsBytes(manifest)};
    SCONCE_ASSIGN_OR_RETURN(const bool committed,
                            CommitObject(*store_, contents, project_uid_, owner, record.manifest(), finish));
    if (!committed) return AnswerOf(*store_, options_.run, *first);
    store_->changes.Notify(options_.run);
    return ToCheckpoint(options_.run, record);
  }

 private:
  absl::StatusOr<std::optional<records::RequestRecord>> Claim(const Digest& body, records::RequestRecord answer,
                                                              catalog::ChangeSet& change) {
    return ClaimRequest(*store_->catalog, project_uid_, options_.request, body, store_->NowNanos(), std::move(answer),
                        change);
  }

  const std::shared_ptr<Store> store_;
  const std::unique_ptr<IngestPool::Slot> slot_;  // before ingest_: a push ends when its work has
  const PushOptions options_;
  const Attributes attributes_;
  const uint64_t project_uid_;
  const std::unique_ptr<Ingest> ingest_;
};

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
  SCONCE_RETURN_IF_ERROR(CheckPushOptions(options));
  SCONCE_RETURN_IF_ERROR(CheckPushManifest(options, manifest));
  SCONCE_ASSIGN_OR_RETURN(Attributes attributes, AttributesOf(options, manifest));
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
