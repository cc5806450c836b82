#include "storage/repository/blob_sweeper.h"

#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/blob/footer.h"
#include "storage/catalog/keys.h"
#include "storage/repository/blob_contents.h"
#include "storage/repository/compaction_policy.h"

namespace sconce::repository {

absl::Status BlobSweeper::Run(const StopSignal& stop, CollectReport& report) {
  return VisitInSteps(*store_.catalog, catalog::SuspectBlobPrefix(), stop,
                      [&](const std::string& key, const std::string& value) { return Look(key, value, report); });
}

bool BlobSweeper::TakeChanged() {
  return std::exchange(changed_, false);
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
    SCONCE_ASSIGN_OR_RETURN(garbage, Judge(id, *record, change));
  }
  const absl::Status applied = store_.catalog->Apply(change).status();
  if (catalog::FailedConditionKey(applied)) return absl::OkStatus();  // looked at again in the next pass
  SCONCE_RETURN_IF_ERROR(applied);
  changed_ = true;
  if (!garbage) return absl::OkStatus();
  store_.contents.Clear();
  int64_t size_bytes = 0;
  if (const auto blob = store_.blobs->Open(id); blob.ok()) size_bytes = (*blob)->size_bytes();
  SCONCE_RETURN_IF_ERROR(store_.blobs->Remove(id));
  ++report.removed_blobs;
  report.freed_bytes += size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<bool> BlobSweeper::Judge(const blob::BlobId& id, const Stored<records::BlobRecord>& record,
                                        catalog::ChangeSet& change) {
  const catalog::CatalogReader& reader = *store_.catalog;
  SCONCE_ASSIGN_OR_RETURN(const OwnerState state, StateOfOwner(reader, record.record));
  if (state == OwnerState::kDying) return false;  // suspect again when the last of its owner goes
  const std::string waste_key = catalog::WasteKey(id.project_uid, id.id);
  change.deletes.push_back(waste_key);
  bool used = state == OwnerState::kLiving;
  const auto blob = store_.blobs->Open(id);
  const auto footer = blob.ok() ? blob::ReadFooter(**blob) : blob.status();
  if (footer.ok()) {
    WastefulBlob waste{id, (*blob)->allocated_bytes(), 0, used ? FooterBytes(*footer) : 0};
    bool bad = false;
    SCONCE_RETURN_IF_ERROR(VisitLiveChunks(reader, id, *footer, [&](const LiveChunk& chunk) {
      used = true;
      bad = bad || chunk.record.bad();
      waste.live_bytes += ChunkFootprint(chunk.place.size_bytes);
      return absl::OkStatus();
    }));
    // Bytes known to be bad stay as they are, evidence and the last there is, until they are healed or deleted.
    if (used && !bad && WasteOf(waste) > 0) {
      records::WasteRecord found;
      found.set_allocated_bytes(waste.allocated_bytes);
      found.set_live_bytes(waste.live_bytes);
      found.set_footer_bytes(waste.footer_bytes);
      change.puts.emplace_back(waste_key, found.SerializeAsString());
    }
  } else if (!used) {
    Log(Severity::kWarn, "footer_unreadable", {{"blob", id.Hex()}, {"reason", footer.status().ToString()}});
    SCONCE_ASSIGN_OR_RETURN(used, AnyChunkIn(reader, id));
  }
  if (!used) change.deletes.push_back(record.key);
  return !used;
}

}  // namespace sconce::repository
