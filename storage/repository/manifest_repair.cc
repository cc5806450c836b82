#include "storage/repository/manifest_repair.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "storage/repository/commit.h"
#include "storage/repository/version_records.h"

namespace sconce::repository {

// An object with a damaged manifest that has the right digest.
struct ManifestRepair::Damaged {
  catalog::Owner owner;
  catalog::Condition unchanged;
  records::ManifestLocation manifest;
  records::FooterRecord footer;
};

namespace {

// As it will be, but for the place of the manifest: every chunk of it is good after this commit.
template <typename Record>
Record Undamaged(Record record) {
  record.clear_bad_chunks();
  record.set_manifest_corrupt(false);
  return record;
}

}  // namespace

ManifestRepair::ManifestRepair(Store& store, uint64_t project_uid, ByteSpan manifest, const std::string& digest)
    : store_(store), project_uid_(project_uid), manifest_(manifest), digest_(digest) {}

ManifestRepair::~ManifestRepair() {
  for (const RestoredManifest& restored : sealed_) {
    store_.blobs->Remove(ToBlobId(project_uid_, restored.to.blob_id())).IgnoreError();
  }
}

absl::StatusOr<std::vector<catalog::Owner>> ManifestRepair::Quarantined() const {
  std::vector<catalog::Owner> owners;
  const std::string prefix = catalog::QuarantinePrefix();
  SCONCE_RETURN_IF_ERROR(
      store_.catalog->Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
        if (const auto owner = catalog::ParseQuarantineKey(key)) owners.push_back(*owner);
        return true;
      }));
  return owners;
}

absl::Status ManifestRepair::Find(const catalog::Owner& owner, std::vector<Damaged>& found) const {
  const catalog::CatalogReader& reader = *store_.catalog;
  SCONCE_ASSIGN_OR_RETURN(const auto run, ReadRecord<records::RunRecord>(reader, catalog::RunKey(owner.run_uid)));
  if (!run || run->record.project_uid() != project_uid_) return absl::OkStatus();
  Damaged damaged;
  damaged.owner = owner;
  damaged.footer = NewFooter(run->record);
  if (owner.kind == catalog::Owner::Kind::kModule) {
    SCONCE_ASSIGN_OR_RETURN(const auto module, FindModuleByUid(reader, owner.run_uid, owner.number));
    if (!module || !module->record.manifest_corrupt()) return absl::OkStatus();
    damaged.unchanged = module->Unchanged();
    damaged.manifest = module->record.manifest();
    *damaged.footer.mutable_module() = Undamaged(module->record);
  } else {
    SCONCE_ASSIGN_OR_RETURN(const auto version,
                            ReadRecord<records::CheckpointRecord>(
                                reader, catalog::CheckpointKey(owner.run_uid, static_cast<int64_t>(owner.number))));
    if (!version || !version->record.manifest_corrupt()) return absl::OkStatus();
    damaged.unchanged = version->Unchanged();
    damaged.manifest = version->record.manifest();
    *damaged.footer.mutable_checkpoint() = Undamaged(version->record);
  }
  if (damaged.manifest.digest() == digest_) found.push_back(std::move(damaged));
  return absl::OkStatus();
}

absl::StatusOr<records::ManifestLocation> ManifestRepair::Seal(const Damaged& damaged) {
  SCONCE_ASSIGN_OR_RETURN(const auto writer, store_.blobs->Create(project_uid_));
  SCONCE_ASSIGN_OR_RETURN(const records::ManifestLocation location, PlaceManifest(*writer, 0, manifest_));
  records::FooterRecord footer = damaged.footer;
  *(footer.has_module() ? footer.mutable_module()->mutable_manifest()
                        : footer.mutable_checkpoint()->mutable_manifest()) = location;
  SCONCE_RETURN_IF_ERROR(SealBlob(*writer, {}, manifest_, footer));
  return location;
}

absl::StatusOr<std::vector<RestoredManifest>> ManifestRepair::Prepare(const std::string& except) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<catalog::Owner> owners, Quarantined());
  std::vector<Damaged> found;
  for (const catalog::Owner& owner : owners) SCONCE_RETURN_IF_ERROR(Find(owner, found));
  std::vector<RestoredManifest> restored;
  for (const Damaged& damaged : found) {
    if (damaged.unchanged.key == except) continue;
    const auto sealed = std::find_if(sealed_.begin(), sealed_.end(),
                                     [&](const RestoredManifest& made) { return made.owner == damaged.owner; });
    RestoredManifest now{damaged.owner, damaged.unchanged, damaged.manifest, {}};
    if (sealed != sealed_.end()) {
      now.to = sealed->to;
    } else {
      SCONCE_ASSIGN_OR_RETURN(now.to, Seal(damaged));
      sealed_.push_back(now);
    }
    restored.push_back(std::move(now));
  }
  return restored;
}

absl::Status ManifestRepair::AddTo(const std::vector<RestoredManifest>& restored, const std::vector<Digest>& chunks,
                                   catalog::ChangeSet& change) {
  for (const RestoredManifest& object : restored) {
    records::BlobRecord blob;
    blob.set_owner(object.owner.Encode());
    *blob.mutable_manifest() = object.to;
    change.conditions.push_back(object.unchanged);
    change.puts.emplace_back(catalog::BlobKey(project_uid_, ToBlobId(project_uid_, object.to.blob_id()).id),
                             blob.SerializeAsString());
    const blob::BlobId old_id = ToBlobId(project_uid_, object.from.blob_id());
    SCONCE_ASSIGN_OR_RETURN(
        const auto old, ReadRecord<records::BlobRecord>(*store_.catalog, catalog::BlobKey(project_uid_, old_id.id)));
    if (old && old->record.owner() == object.owner.Encode()) {
      change.conditions.push_back(old->Unchanged());
      change.puts.emplace_back(old->key, records::BlobRecord().SerializeAsString());
      change.puts.emplace_back(catalog::SuspectBlobKey(project_uid_, old_id.id), object.to.blob_id());
    }
    // All there as a rule; a version that a rebuild knows from the snapshot only has none.
    std::vector<std::string> keys;
    for (const Digest& chunk : chunks) keys.push_back(catalog::ReferenceKey(project_uid_, chunk, object.owner));
    SCONCE_ASSIGN_OR_RETURN(const auto there, store_.catalog->MultiGet(keys));
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!there[i]) change.puts.emplace_back(std::move(keys[i]), "");
    }
  }
  return absl::OkStatus();
}

void ManifestRepair::Keep(const std::vector<RestoredManifest>& restored) {
  for (const RestoredManifest& object : restored) {
    sealed_.erase(std::remove_if(sealed_.begin(), sealed_.end(),
                                 [&](const RestoredManifest& made) { return made.owner == object.owner; }),
                  sealed_.end());
  }
}

}  // namespace sconce::repository
