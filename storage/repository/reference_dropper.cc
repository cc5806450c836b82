#include "storage/repository/reference_dropper.h"

#include <optional>
#include <set>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/repository/chunk_index.h"
#include "storage/repository/deletion_log.h"
#include "storage/repository/lookup.h"
#include "storage/repository/stored_object.h"

namespace sconce::repository {
namespace {

// Whether somebody else than `owner` refers to the chunk.
absl::StatusOr<bool> HasOtherOwner(const catalog::CatalogReader& reader, uint64_t project_uid, const Digest& chunk,
                                   const catalog::Owner& owner) {
  bool other = false;
  const std::string prefix = catalog::ReferencePrefix(project_uid, chunk);
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
        const auto reference = catalog::ParseReferenceKey(key);
        other = !reference || !(reference->owner == owner);
        return !other;
      }));
  return other;
}

}  // namespace

absl::Status ReferenceDropper::Run(const StopSignal& stop, CollectReport& report) {
  return VisitInSteps(
      *store_.catalog, catalog::TombstonePrefix(), stop,
      [&](const std::string& key, const std::string& value) { return DropAll(key, value, stop, report); });
}

absl::Status ReferenceDropper::DropAll(const std::string& key, const std::string& value, const StopSignal& stop,
                                       CollectReport& report) {
  SCONCE_ASSIGN_OR_RETURN(const auto tombstone, ParseRecord<records::TombstoneRecord>(value));
  const std::optional<catalog::Owner> owner = catalog::ParseTombstoneKey(key);
  if (!owner) return MakeError(Reason::CATALOG_CORRUPT, "a tombstone's key does not parse");
  if (owner->kind == catalog::Owner::Kind::kUpload) return absl::OkStatus();  // UploadReaper's
  const Deletion deletion = DeletionOf(tombstone.project_uid(), *owner, store_.NowNanos());
  SCONCE_RETURN_IF_ERROR(store_.deletions->Record({deletion}));  // before anything of it goes
  SCONCE_ASSIGN_OR_RETURN(const std::vector<Digest> chunks, ChunksOf(*owner, tombstone));
  bool all = true;
  for (size_t begin = 0; begin < chunks.size(); begin += kStep) {
    if (stop.Requested()) return absl::OkStatus();
    const absl::Span<const Digest> step = absl::MakeConstSpan(chunks).subspan(begin, kStep);
    SCONCE_ASSIGN_OR_RETURN(const bool dropped, Drop(tombstone.project_uid(), *owner, step, report));
    all = all && dropped;
  }
  if (!all) {
    ++report.postponed;
    return absl::OkStatus();
  }
  catalog::ChangeSet change;
  change.deletes.push_back(key);
  const blob::BlobId blob = ToBlobId(tombstone.project_uid(), tombstone.manifest().blob_id());
  change.puts.emplace_back(catalog::SuspectBlobKey(blob.project_uid, blob.id), owner->Encode());
  SCONCE_RETURN_IF_ERROR(store_.catalog->Apply(change).status());
  store_.deletions->Forget(deletion);
  ++report.versions;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Digest>> ReferenceDropper::ChunksOf(const catalog::Owner& owner,
                                                               const records::TombstoneRecord& tombstone) {
  std::set<Digest> chunks;
  if (const auto stored = ReadManifest(store_, tombstone.project_uid(), tombstone.manifest()); stored.ok()) {
    for (const format::Storage& storage : stored->manifest.storages) {
      for (const format::Chunk& chunk : storage.chunks) chunks.insert(chunk.sha256);
    }
  } else {
    Log(Severity::kWarn, "deleted_manifest_unreadable", {{"reason", stored.status().ToString()}});
    const std::string prefix = catalog::ReferencePrefix(tombstone.project_uid());
    SCONCE_RETURN_IF_ERROR(
        store_.catalog->Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
          const auto reference = catalog::ParseReferenceKey(key);
          if (reference && reference->owner == owner) chunks.insert(reference->chunk);
          return true;
        }));
  }
  return std::vector<Digest>(chunks.begin(), chunks.end());
}

absl::StatusOr<bool> ReferenceDropper::Drop(uint64_t project_uid, const catalog::Owner& owner,
                                            absl::Span<const Digest> chunks, CollectReport& report) {
  const std::vector<bool> condemned = store_.pins.Condemn(project_uid, chunks);
  bool all = true;
  int64_t removed = 0;
  const absl::Status status = RetryOnConflict([&]() -> absl::Status {
    catalog::ChangeSet change;
    std::set<blob::BlobId> suspects;
    all = true;
    removed = 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
      SCONCE_ASSIGN_OR_RETURN(const bool other, HasOtherOwner(*store_.catalog, project_uid, chunks[i], owner));
      if (!other && !condemned[i]) {
        all = false;
        continue;
      }
      change.deletes.push_back(catalog::ReferenceKey(project_uid, chunks[i], owner));
      if (other) continue;
      SCONCE_ASSIGN_OR_RETURN(const auto record, ReadRecord<records::ChunkRecord>(
                                                     *store_.catalog, catalog::ChunkKey(project_uid, chunks[i])));
      if (!record) continue;
      change.conditions.push_back(record->Unchanged());
      DeleteChunk(project_uid, chunks[i], record->record, change);
      suspects.insert(ToBlobId(project_uid, record->record.blob_id()));
      ++removed;
    }
    for (const blob::BlobId& suspect : suspects) {
      change.puts.emplace_back(catalog::SuspectBlobKey(project_uid, suspect.id), owner.Encode());
    }
    return store_.catalog->Apply(change).status();
  });
  store_.pins.Absolve(project_uid, chunks, condemned);
  SCONCE_RETURN_IF_ERROR(status);
  report.removed_chunks += removed;
  return all;
}

}  // namespace sconce::repository
