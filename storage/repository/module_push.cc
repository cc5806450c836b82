#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/commit.h"
#include "storage/repository/lookup.h"
#include "storage/repository/names.h"
#include "storage/repository/push.h"
#include "storage/repository/run_creation.h"
#include "storage/repository/tombstones.h"

// A module is stored like a checkpoint whose tree is one bare storage: the archive.
namespace sconce::repository {
namespace {

format::Manifest ArchiveManifest(int64_t size_bytes) {
  format::Manifest manifest;
  format::Storage archive;
  archive.size_bytes = size_bytes;
  archive.device = "cpu";
  manifest.storages.push_back(std::move(archive));
  format::Node root;
  root.kind = format::NodeKind::kStorage;
  root.text = "untyped";
  root.integer = 0;
  manifest.nodes.push_back(std::move(root));
  return manifest;
}

class LocalModulePush final : public ModulePush {
 public:
  struct Target {
    RunName run;
    std::string module;
    int64_t size_bytes = 0;
    Labels labels;
    bool create_run = true;
    uint64_t project_uid = 0;
  };

  LocalModulePush(std::shared_ptr<Store> store, std::unique_ptr<IngestPool::Slot> slot, Target target,
                  std::unique_ptr<Ingest> ingest)
      : store_(std::move(store)), slot_(std::move(slot)), target_(std::move(target)), ingest_(std::move(ingest)) {}

  absl::Status Write(ByteSpan bytes) override {
    if (static_cast<int64_t>(bytes.size()) > target_.size_bytes - received_bytes_) {
      return MakeError(Reason::OFFSET_OUT_OF_RANGE,
                       absl::StrCat("more than the ", target_.size_bytes, " bytes of the module were sent"));
    }
    if (target_.size_bytes <= format::kInlineStorageBytes) {
      inline_bytes_.append(AsText(bytes).data(), bytes.size());
    } else {
      SCONCE_RETURN_IF_ERROR(ingest_->Write(bytes));
    }
    hasher_.Update(bytes);
    received_bytes_ += static_cast<int64_t>(bytes.size());
    return absl::OkStatus();
  }
  int64_t received_bytes() const override { return received_bytes_; }
  int64_t expected_bytes() const override { return target_.size_bytes; }

  absl::StatusOr<Module> Commit() override {
    if (received_bytes_ < target_.size_bytes) {
      return MakeError(Reason::UPLOAD_INCOMPLETE, absl::StrCat("only ", received_bytes_, " of ", target_.size_bytes,
                                                               " bytes of the module were sent; push again"));
    }
    SCONCE_RETURN_IF_ERROR(ingest_->Finish());
    ingest_->manifest().storages[0].inline_bytes = inline_bytes_;
    const Digest digest = hasher_.Finish();
    SCONCE_ASSIGN_OR_RETURN(const auto there, FindSame(digest));
    if (there) return *there;

    const std::string manifest = format::EncodeManifest(ingest_->manifest());
    SCONCE_ASSIGN_OR_RETURN(const Reservation reserved,
                            ReserveModule(*store_, target_.run, target_.project_uid, target_.create_run));
    records::ModuleRecord record = MakeRecord(reserved.number, digest);
    SCONCE_RETURN_IF_ERROR(SealObject(*ingest_, AsBytes(manifest), [&](const records::ManifestLocation& location) {
                             *record.mutable_manifest() = location;
                             records::FooterRecord footer;
                             footer.set_project(target_.run.project);
                             footer.set_run(target_.run.run);
                             footer.set_run_uid(reserved.run_uid);
                             *footer.mutable_module() = record;
                             return footer;
                           }).status());

    std::optional<Module> first;
    const catalog::Owner owner{catalog::Owner::Kind::kModule, reserved.run_uid, reserved.number};
    const auto finish = [&](catalog::ChangeSet& change) -> absl::StatusOr<bool> {
      SCONCE_ASSIGN_OR_RETURN(first, FindSame(digest));
      if (first) return false;
      return AddRecords(reserved, record, change);
    };
    const ObjectContents contents{ingest_->chunks(),
                                  {ingest_->writer().id()},
                                  AsBytes(manifest),
                                  catalog::ModuleKey(reserved.run_uid, target_.module)};
    SCONCE_ASSIGN_OR_RETURN(const bool committed,
                            CommitObject(*store_, contents, target_.project_uid, owner, record.manifest(), finish));
    if (!committed) return *first;
    store_->integrity.Refresh(*store_->catalog);  // it may have replaced a damaged one
    store_->changes.Notify(target_.run);
    return ToModule(target_.run, record);
  }

 private:
  // The module as stored, when it has this content and is whole; MODULE_ALREADY_EXISTS when it has other content.
  absl::StatusOr<std::optional<Module>> FindSame(const Digest& digest) {
    SCONCE_ASSIGN_OR_RETURN(const auto run, FindAnyRun(*store_->catalog, target_.run));
    if (!run) return std::nullopt;
    SCONCE_ASSIGN_OR_RETURN(
        const auto found,
        ReadRecord<records::ModuleRecord>(*store_->catalog, catalog::ModuleKey(run->record.uid(), target_.module)));
    if (!found) return std::nullopt;
    if (found->record.digest() == digest.AsKey()) {
      if (IsDamaged(found->record)) return std::nullopt;
      return std::optional<Module>(ToModule(target_.run, found->record));
    }
    return MakeError(Reason::MODULE_ALREADY_EXISTS,
                     absl::StrCat("run ", Display(target_.run), " has a module ", target_.module,
                                  " with other content; modules are write-once: choose another name"),
                     {{"run", Display(target_.run)}, {"module", target_.module}});
  }

  records::ModuleRecord MakeRecord(uint64_t uid, const Digest& digest) const {
    records::ModuleRecord record;
    record.set_uid(uid);
    record.set_module(target_.module);
    record.set_size_bytes(target_.size_bytes);
    record.set_digest(digest.AsKey().data(), digest.AsKey().size());
    record.set_create_time_ns(store_->NowNanos());
    SetLabels(target_.labels, *record.mutable_labels());
    return record;
  }

  absl::StatusOr<bool> AddRecords(const Reservation& reserved, const records::ModuleRecord& record,
                                  catalog::ChangeSet& change) {
    SCONCE_ASSIGN_OR_RETURN(const auto run,
                            ReadRecord<records::RunRecord>(*store_->catalog, catalog::RunKey(reserved.run_uid)));
    if (!run) return RunNotFound(target_.run);  // deleted while the push was under way
    const records::RunRecord touched = Touched(run->record, record.create_time_ns());
    const std::string key = catalog::ModuleKey(reserved.run_uid, target_.module);
    change.conditions.push_back(run->Unchanged());
    SCONCE_ASSIGN_OR_RETURN(const auto damaged, ReadRecord<records::ModuleRecord>(*store_->catalog, key));
    if (damaged) {  // the same content, being healed
      change.conditions.push_back(damaged->Unchanged());
      BuryModule(target_.project_uid, reserved.run_uid, damaged->record, change);
    } else {
      change.conditions.push_back({key, std::nullopt});
    }
    change.puts.emplace_back(run->key, touched.SerializeAsString());
    change.puts.emplace_back(key, record.SerializeAsString());
    change.log.push_back(
        ChangeEntry(records::CHANGE_KIND_MODULE_COMMITTED, touched, 0, target_.module, record.create_time_ns()));
    return true;
  }

  const std::shared_ptr<Store> store_;
  const std::unique_ptr<IngestPool::Slot> slot_;  // before ingest_: a push ends when its work has
  const Target target_;
  const std::unique_ptr<Ingest> ingest_;
  Sha256Hasher hasher_;
  std::string inline_bytes_;  // of an archive so small that it lives in the manifest
  int64_t received_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModulePush>> BeginModulePush(std::shared_ptr<Store> store, IngestPool& pool,
                                                            const RunName& run, const std::string& module,
                                                            int64_t size_bytes, const Labels& labels, bool create_run,
                                                            std::function<void()> ended) {
  SCONCE_RETURN_IF_ERROR(ValidateRunName(run));
  SCONCE_RETURN_IF_ERROR(ValidateId("module", module));
  SCONCE_RETURN_IF_ERROR(ValidateLabels(labels));
  if (size_bytes <= 0) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("a module of ", size_bytes, " bytes is no TorchScript archive"));
  }
  if (!create_run) SCONCE_RETURN_IF_ERROR(FindRun(*store->catalog, run).status());
  SCONCE_RETURN_IF_ERROR(CheckRoom(*store, 0));
  SCONCE_ASSIGN_OR_RETURN(auto slot, pool.BeginPush(std::move(ended)));
  SCONCE_ASSIGN_OR_RETURN(const uint64_t project_uid, EnsureProject(*store, run.project));
  SCONCE_ASSIGN_OR_RETURN(auto writer, store->blobs->Create(project_uid));
  auto ingest = std::make_unique<Ingest>(*store, pool, project_uid, std::move(writer), ArchiveManifest(size_bytes));
  LocalModulePush::Target target{run, module, size_bytes, labels, create_run, project_uid};
  return std::make_unique<LocalModulePush>(std::move(store), std::move(slot), std::move(target), std::move(ingest));
}

}  // namespace sconce::repository
