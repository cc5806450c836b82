#include "storage/repository/blob_sweeper.h"

#include <optional>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/lookup.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/stored_object.h"

namespace sconce::repository {

absl::Status BlobSweeper::Run(const StopSignal& stop, CollectReport& report) {
  return VisitInSteps(*store_.catalog, catalog::SuspectBlobPrefix(), stop,
                      [&](const std::string& key, const std::string& value) { return Look(key, value, report); });
}

absl::Status BlobSweeper::Look(const std::string& key, const std::string& value, CollectReport& report) {
  const auto fields = catalog::ParseSuspectBlobKey(key);
  if (!fields) return MakeError(Reason::CATALOG_CORRUPT, "a suspect blob's key does not parse");
  const blob::BlobId id{fields->project_uid, fields->id};
  SCONCE_ASSIGN_OR_RETURN(const auto record,
                          ReadRecord<records::BlobRecord>(*store_.catalog, catalog::BlobKey(id.project_uid, id.id)));
  catalog::ChangeSet change;
  change.conditions.push_back({key, value});  // nothing more was dropped from it since
  change.deletes.push_back(key);
  bool garbage = false;
  if (record) {
    SCONCE_ASSIGN_OR_RETURN(garbage, IsGarbage(id, record->record));
  }
  if (garbage) change.deletes.push_back(record->key);
  const absl::Status applied = store_.catalog->Apply(change).status();
  if (catalog::FailedConditionKey(applied)) return absl::OkStatus();  // looked at again in the next pass
  SCONCE_RETURN_IF_ERROR(applied);
  if (!garbage) return absl::OkStatus();
  store_.contents.Clear();
  int64_t size_bytes = 0;
  if (const auto blob = store_.blobs->Open(id); blob.ok()) size_bytes = (*blob)->size_bytes();
  SCONCE_RETURN_IF_ERROR(store_.blobs->Remove(id));
  ++report.removed_blobs;
  report.freed_bytes += size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<bool> BlobSweeper::IsGarbage(const blob::BlobId& id, const records::BlobRecord& record) {
  const std::optional<catalog::Owner> decoded = catalog::Owner::Decode(record.owner());
  if (!decoded) return MakeError(Reason::CATALOG_CORRUPT, "the owner of a blob does not parse");
  const catalog::Owner& owner = *decoded;
  // Its own version or module, or what is left of it, still needs the manifest in the footer.
  SCONCE_ASSIGN_OR_RETURN(const auto tombstone, store_.catalog->Get(catalog::TombstoneKey(owner)));
  if (tombstone) return false;
  if (owner.kind == catalog::Owner::Kind::kVersion) {
    SCONCE_ASSIGN_OR_RETURN(const auto version, store_.catalog->Get(catalog::CheckpointKey(
                                                    owner.run_uid, static_cast<int64_t>(owner.number))));
    if (version) return false;
  } else {
    SCONCE_ASSIGN_OR_RETURN(const auto module, FindModuleByUid(*store_.catalog, owner.run_uid, owner.number));
    if (module) return false;
  }
  SCONCE_ASSIGN_OR_RETURN(const bool used, HoldsLiveChunk(id, record.manifest()));
  return !used;
}

absl::StatusOr<bool> BlobSweeper::HoldsLiveChunk(const blob::BlobId& id, const records::ManifestLocation& manifest) {
  bool live = false;
  absl::Status parsed;
  const auto look = [&](absl::string_view value) {
    const auto chunk = ParseRecord<records::ChunkRecord>(value);
    parsed.Update(chunk.status());
    live = live || (chunk.ok() && chunk->blob_id() == RawId(id));
    return parsed.ok() && !live;
  };
  if (const auto stored = ReadManifest(store_, id.project_uid, manifest); stored.ok()) {
    std::vector<std::string> keys;
    for (const format::Storage& storage : stored->manifest.storages) {
      for (const format::Chunk& chunk : storage.chunks) keys.push_back(catalog::ChunkKey(id.project_uid, chunk.sha256));
    }
    SCONCE_ASSIGN_OR_RETURN(const auto values, store_.catalog->MultiGet(keys));
    for (const auto& value : values) {
      if (value && !look(*value)) break;
    }
  } else {  // unreadable: every chunk of the project has to be looked at
    const std::string prefix = catalog::ChunkPrefix(id.project_uid);
    SCONCE_RETURN_IF_ERROR(
        store_.catalog->Scan(prefix, catalog::PrefixEnd(prefix), false,
                             [&](absl::string_view, absl::string_view value) { return look(value); }));
  }
  SCONCE_RETURN_IF_ERROR(parsed);
  return live;
}

}  // namespace sconce::repository
