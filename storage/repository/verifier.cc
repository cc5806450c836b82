// In three phases, each in steps:
//
//   1. Plan, for a run or a version: which blobs its manifests, and the chunks they name, stand in. A project or
//      everything is what the catalog's list of blobs says.
//   2. Each blob (blob_check.h). After this, every version that is damaged is quarantined.
//   3. Each version and module (object_check.h): that the records agree, and what to report.
#include "storage/repository/verifier.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/blob_check.h"
#include "storage/repository/lookup.h"
#include "storage/repository/object_check.h"
#include "storage/repository/store_walk.h"

namespace sconce::repository {
namespace {

class LocalVerification final : public Verification {
 public:
  // What of the store; the constructors of OwnerWalk say which.
  struct Scope {
    bool everything = false;
    uint64_t project_uid = 0;
    std::optional<records::RunRecord> run;
    std::optional<int64_t> version;
  };

  LocalVerification(Store& store, Scope scope)
      : store_(store), scope_(std::move(scope)), buffer_(BlobCheck::kBufferBytes) {
    if (scope_.run) {
      phase_ = Phase::kPlan;
      owners_.emplace(NewOwnerWalk());
      return;
    }
    blobs_.emplace(*store_.catalog,
                   scope_.everything ? catalog::BlobPrefix() : catalog::BlobPrefix(scope_.project_uid));
  }

  absl::StatusOr<VerifyProgress> Step() override {
    progress_.damaged.clear();
    if (const absl::Status status = StepPhase(); !status.ok()) {
      store_.integrity.NoteCatalog(status);
      return status;
    }
    progress_.blobs = findings_.blobs;
    progress_.chunks = findings_.chunks;
    progress_.damaged_footers = findings_.damaged_footers;
    progress_.done = phase_ == Phase::kDone;
    if (progress_.done) progress_.total_bytes = progress_.verified_bytes;
    progress_.total_bytes = std::max(progress_.total_bytes, progress_.verified_bytes);
    return progress_;
  }

 private:
  enum class Phase { kPlan, kSize, kBlobs, kObjects, kDone };

  OwnerWalk NewOwnerWalk() const {
    if (scope_.run) return OwnerWalk(*store_.catalog, *scope_.run);
    return OwnerWalk(*store_.catalog, scope_.project_uid, 0);
  }

  absl::Status StepPhase() {
    switch (phase_) {
      case Phase::kPlan:
        return StepPlan();
      case Phase::kSize:
        return StepSize();
      case Phase::kBlobs:
        return StepBlobs();
      case Phase::kObjects:
        return StepObjects();
      case Phase::kDone:
        break;
    }
    return absl::OkStatus();
  }

  // The next owner of the scope.
  absl::StatusOr<std::optional<OwnerWalk::Item>> NextOwner() {
    while (true) {
      SCONCE_ASSIGN_OR_RETURN(auto item, owners_->Next());
      if (!item || !scope_.version || item->name.version == *scope_.version) return item;
    }
  }

  absl::Status StepPlan() {
    SCONCE_ASSIGN_OR_RETURN(const auto item, NextOwner());
    if (!item) {
      phase_ = Phase::kBlobs;
      next_planned_ = planned_.begin();
      return absl::OkStatus();
    }
    std::set<blob::BlobId> found;
    const auto visit = [&](const Digest& chunk, const records::ChunkRecord& record) {
      found.insert(ToBlobId(item->project_uid, record.blob_id()));
      if (scope_.version && chunks_.insert(chunk).second) progress_.total_bytes += record.size_bytes();
    };
    SCONCE_ASSIGN_OR_RETURN(const auto manifest, VisitChunks(store_, item->project_uid, item->owner, visit));
    if (manifest) found.insert(*manifest);
    for (const blob::BlobId& id : found) {
      if (planned_.insert(id).second && !scope_.version) progress_.total_bytes += SizeOf(id);
    }
    return absl::OkStatus();
  }

  int64_t SizeOf(const blob::BlobId& id) const {
    const auto file = store_.blobs->OpenStored(id);
    return file.ok() ? (*file)->size_bytes() : 0;
  }

  // How much there is to read in a project or in everything.
  absl::Status StepSize() {
    if (scope_.everything) {
      progress_.total_bytes = store_.blobs->GetStats().physical_bytes;
      phase_ = Phase::kBlobs;
      return absl::OkStatus();
    }
    if (!sizing_) sizing_.emplace(*store_.catalog, catalog::BlobPrefix(scope_.project_uid));
    SCONCE_ASSIGN_OR_RETURN(const auto entry, sizing_->Next());
    if (!entry) {
      phase_ = Phase::kBlobs;
    } else if (const auto fields = catalog::ParseBlobKey(entry->first)) {
      progress_.total_bytes += SizeOf({fields->project_uid, fields->id});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<blob::BlobId>> NextBlob() {
    if (scope_.run) {
      if (next_planned_ == planned_.end()) return std::optional<blob::BlobId>();
      return std::optional<blob::BlobId>(*next_planned_++);
    }
    while (true) {
      SCONCE_ASSIGN_OR_RETURN(const auto entry, blobs_->Next());
      if (!entry) return std::optional<blob::BlobId>();
      const auto fields = catalog::ParseBlobKey(entry->first);
      if (fields) return std::optional<blob::BlobId>(blob::BlobId{fields->project_uid, fields->id});
    }
  }

  absl::Status StepBlobs() {
    if (!blob_) {
      SCONCE_ASSIGN_OR_RETURN(const auto id, NextBlob());
      if (!id) {
        phase_ = Phase::kObjects;
        owners_.emplace(NewOwnerWalk());
        return absl::OkStatus();
      }
      blob_.emplace(store_, *id, scope_.version ? &chunks_ : nullptr, buffer_, findings_);
      blob_bytes_ = 0;
    }
    SCONCE_ASSIGN_OR_RETURN(const int64_t bytes, blob_->Step());
    blob_bytes_ += bytes;
    progress_.verified_bytes += bytes;
    if (!blob_->done()) return absl::OkStatus();
    // What is dead in it, and holes, were not read.
    if (!scope_.version) progress_.verified_bytes += std::max<int64_t>(0, blob_->size_bytes() - blob_bytes_);
    blob_.reset();
    return absl::OkStatus();
  }

  absl::Status StepObjects() {
    SCONCE_ASSIGN_OR_RETURN(const auto item, NextOwner());
    if (!item) {
      phase_ = Phase::kDone;
      if (scope_.everything) store_.integrity.SetDamagedFooters(findings_.damaged_footers);
      return absl::OkStatus();
    }
    SCONCE_ASSIGN_OR_RETURN(const auto quarantined, CheckObject(store_, item->project_uid, item->owner));
    if (quarantined.value_or(false)) progress_.damaged.push_back(item->name);
    return absl::OkStatus();
  }

  Store& store_;
  const Scope scope_;
  blob::AlignedBuffer buffer_;
  VerifyProgress progress_;
  BlobFindings findings_;
  Phase phase_ = Phase::kSize;

  std::optional<OwnerWalk> owners_;
  std::optional<KeyWalk> sizing_, blobs_;
  std::set<blob::BlobId> planned_;
  std::set<blob::BlobId>::const_iterator next_planned_;
  absl::flat_hash_set<Digest> chunks_;  // of the one version
  std::optional<BlobCheck> blob_;
  int64_t blob_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Verification>> StartVerification(Store& store, const VerifyScope& scope) {
  LocalVerification::Scope found;
  if (scope.project.empty()) {
    found.everything = true;
  } else if (scope.run.empty()) {
    SCONCE_ASSIGN_OR_RETURN(const auto uid, FindProject(*store.catalog, scope.project));
    found.project_uid = uid.value_or(UINT64_MAX);  // no project has that
  } else if (scope.selector.empty()) {
    SCONCE_ASSIGN_OR_RETURN(const auto run, FindRun(*store.catalog, {scope.project, scope.run}));
    found.run = run.record;
  } else {
    SCONCE_ASSIGN_OR_RETURN(const auto version,
                            FindCheckpoint(*store.catalog, {{scope.project, scope.run}, scope.selector}));
    found.run = version.run.record;
    found.version = version.checkpoint.record.version();
  }
  return std::make_unique<LocalVerification>(store, std::move(found));
}

}  // namespace sconce::repository
