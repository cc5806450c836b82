#include "storage/repository/garbage_preview.h"

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "storage/blob/footer.h"
#include "storage/catalog/keys.h"
#include "storage/repository/lookup.h"
#include "storage/repository/quarantine.h"

namespace sconce::repository {
namespace {

// Whether the owner keeps what it refers to. One of a kind this build does not delete does.
absl::StatusOr<bool> Lives(const catalog::CatalogReader& reader, const catalog::Owner& owner) {
  SCONCE_ASSIGN_OR_RETURN(const auto run_gone, reader.Get(catalog::RunTombstoneKey(owner.run_uid)));
  if (run_gone) return false;
  if (owner.kind == catalog::Owner::Kind::kVersion) {
    SCONCE_ASSIGN_OR_RETURN(const auto version,
                            reader.Get(catalog::CheckpointKey(owner.run_uid, static_cast<int64_t>(owner.number))));
    return version.has_value();
  }
  if (owner.kind == catalog::Owner::Kind::kModule) {
    SCONCE_ASSIGN_OR_RETURN(const auto module, FindModuleByUid(reader, owner.run_uid, owner.number));
    return module.has_value();
  }
  return true;
}

absl::StatusOr<bool> HasLivingOwner(const catalog::CatalogReader& reader, uint64_t project_uid, const Digest& chunk) {
  std::vector<catalog::Owner> owners;
  bool unclear = false;
  const std::string prefix = catalog::ReferencePrefix(project_uid, chunk);
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
        const auto reference = catalog::ParseReferenceKey(key);
        if (reference) owners.push_back(reference->owner);
        unclear = unclear || !reference;
        return true;
      }));
  if (unclear) return true;
  for (const catalog::Owner& owner : owners) {
    SCONCE_ASSIGN_OR_RETURN(const bool lives, Lives(reader, owner));
    if (lives) return true;
  }
  return false;
}

// Whether a living version needs a chunk of the blob. True for one whose footer does not tell what it holds.
absl::StatusOr<bool> IsNeeded(const catalog::CatalogReader& reader, const blob::Blob& blob) {
  const auto footer = blob.Footer();
  const auto start = blob.Read(0, 0);
  if (!footer.ok() || !start.ok()) return true;
  const auto view = blob::DecodeFooter(*footer, footer->data() - start->data());
  if (!view.ok()) return true;
  for (const blob::FooterChunk& chunk : view->chunks) {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ReadRecord<records::ChunkRecord>(
                                                   reader, catalog::ChunkKey(blob.id().project_uid, chunk.sha256)));
    if (!record || record->record.blob_id() != RawId(blob.id())) continue;
    SCONCE_ASSIGN_OR_RETURN(const bool owned, HasLivingOwner(reader, blob.id().project_uid, chunk.sha256));
    if (owned) return true;
  }
  return false;
}

absl::StatusOr<int64_t> CountKeys(const catalog::CatalogReader& reader, const std::string& prefix) {
  int64_t count = 0;
  SCONCE_RETURN_IF_ERROR(reader.Scan(prefix, catalog::PrefixEnd(prefix), false,
                                     [&](absl::string_view, absl::string_view) { return ++count > 0; }));
  return count;
}

absl::StatusOr<int64_t> CountDeleted(const catalog::CatalogReader& reader) {
  SCONCE_ASSIGN_OR_RETURN(int64_t count, CountKeys(reader, catalog::TombstonePrefix(catalog::Owner::Kind::kVersion)));
  SCONCE_ASSIGN_OR_RETURN(const int64_t buried,
                          CountKeys(reader, catalog::TombstonePrefix(catalog::Owner::Kind::kModule)));
  count += buried;
  std::vector<uint64_t> runs;
  const std::string prefix = catalog::RunTombstonePrefix();
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
        if (const auto run_uid = catalog::ParseRunTombstoneKey(key)) runs.push_back(*run_uid);
        return true;
      }));
  for (const uint64_t run_uid : runs) {
    SCONCE_ASSIGN_OR_RETURN(const int64_t versions, CountKeys(reader, catalog::CheckpointPrefix(run_uid)));
    SCONCE_ASSIGN_OR_RETURN(const int64_t modules, CountKeys(reader, catalog::ModulePrefix(run_uid)));
    count += versions + modules;
  }
  return count;
}

}  // namespace

absl::StatusOr<CollectReport> PreviewGarbageOf(Store& store) {
  const std::unique_ptr<catalog::CatalogReader> snapshot = store.catalog->Snapshot();
  CollectReport report;
  SCONCE_ASSIGN_OR_RETURN(report.versions, CountDeleted(*snapshot));
  absl::Status looked;
  const auto look = [&](absl::string_view key, absl::string_view value) -> absl::Status {
    const auto fields = catalog::ParseBlobKey(key);
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::BlobRecord>(value));
    if (!fields) return absl::OkStatus();
    if (record.has_manifest()) {  // else nobody needs its footer
      const auto owner = catalog::Owner::Decode(record.owner());
      if (!owner) return absl::OkStatus();
      SCONCE_ASSIGN_OR_RETURN(const bool lives, Lives(*snapshot, *owner));
      if (lives) return absl::OkStatus();
    }
    const auto blob = store.blobs->Open({fields->project_uid, fields->id});
    if (!blob.ok()) return absl::OkStatus();  // gone by now, or damaged: the collector will see
    SCONCE_ASSIGN_OR_RETURN(const bool needed, IsNeeded(*snapshot, **blob));
    if (needed) return absl::OkStatus();
    ++report.removed_blobs;
    report.freed_bytes += (*blob)->size_bytes();
    return absl::OkStatus();
  };
  const std::string prefix = catalog::BlobPrefix();
  SCONCE_RETURN_IF_ERROR(
      snapshot->Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        looked = look(key, value);
        return looked.ok();
      }));
  SCONCE_RETURN_IF_ERROR(looked);
  return report;
}

}  // namespace sconce::repository
