#include "storage/repository/blob_sweeper.h"

#include <optional>
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
  bool garbage = false, damaged_footer = false;
  if (record) {
    SCONCE_ASSIGN_OR_RETURN(garbage, Judge(id, *record, damaged_footer, change));
  }
  const absl::Status applied = store_.catalog->Apply(change).status();
  if (catalog::FailedConditionKey(applied)) return absl::OkStatus();  // looked at again in the next pass
  SCONCE_RETURN_IF_ERROR(applied);
  changed_ = true;
  if (!garbage) return absl::OkStatus();
  if (damaged_footer) store_.integrity.NoteDamagedFooterGone();
  store_.contents.Clear();
  int64_t size_bytes = 0;
  if (const auto blob = store_.blobs->Open(id); blob.ok()) size_bytes = (*blob)->size_bytes();
  SCONCE_RETURN_IF_ERROR(store_.blobs->Remove(id));
  ++report.removed_blobs;
  report.freed_bytes += size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<bool> BlobSweeper::Judge(const blob::BlobId& id, const Stored<records::BlobRecord>& record,
                                        bool& damaged_footer, catalog::ChangeSet& change) {
  const catalog::CatalogReader& reader = *store_.catalog;
  SCONCE_ASSIGN_OR_RETURN(const OwnerState state, StateOfOwner(reader, record.record));
  if (state == OwnerState::kDying) return false;  // suspect again when the last of its owner goes
  const std::string waste_key = catalog::WasteKey(id.project_uid, id.id);
  change.deletes.push_back(waste_key);
  bool used = state == OwnerState::kLiving;
  const auto blob = store_.blobs->Open(id);
  if (!blob.ok()) {
    if (!used) {
      SCONCE_ASSIGN_OR_RETURN(used, AnyChunkIn(reader, id));
    }
  } else {
    SCONCE_ASSIGN_OR_RETURN(const auto waste, Measure(**blob, record.record, used, damaged_footer));
    if (waste) change.puts.emplace_back(waste_key, waste->SerializeAsString());
  }
  if (!used) change.deletes.push_back(record.key);
  return !used;
}

absl::StatusOr<std::optional<records::WasteRecord>> BlobSweeper::Measure(const blob::Blob& blob,
                                                                         const records::BlobRecord& record, bool& used,
                                                                         bool& damaged_footer) {
  const catalog::CatalogReader& reader = *store_.catalog;
  absl::StatusOr<KnownFooter> footer = KnownFooter();
  const auto read = blob::ReadFooter(blob);
  if (read.ok()) {
    footer->view = *read;
  } else if (HasReason(read.status(), Reason::DATA_DIR_INCOMPATIBLE)) {
    used = true;  // a newer build's
    return std::nullopt;
  } else {
    damaged_footer = true;
    Log(Severity::kWarn, "footer_unreadable", {{"blob", blob.id().Hex()}, {"reason", read.status().ToString()}});
    footer = FooterByCatalog(reader, blob, record, used);
    if (HasReason(footer.status(), Reason::CHUNK_CORRUPT)) return std::nullopt;  // a push may bring the manifest
    SCONCE_RETURN_IF_ERROR(footer.status());
  }
  WastefulBlob waste{blob.id(), blob.allocated_bytes(), 0, used ? FooterBytes(footer->view) : 0, damaged_footer};
  bool bad = false;
  SCONCE_RETURN_IF_ERROR(VisitLiveChunks(reader, blob.id(), footer->view, [&](const LiveChunk& chunk) {
    used = true;
    bad = bad || chunk.record.bad();
    waste.live_bytes += ChunkFootprint(chunk.place.size_bytes);
    return absl::OkStatus();
  }));
  // Bytes known to be bad stay as they are, evidence and the last there is, until they are healed or deleted.
  if (!used || bad || (WasteOf(waste) <= 0 && !damaged_footer)) return std::nullopt;
  records::WasteRecord found;
  found.set_allocated_bytes(waste.allocated_bytes);
  found.set_live_bytes(waste.live_bytes);
  found.set_footer_bytes(waste.footer_bytes);
  found.set_damaged_footer(damaged_footer);
  return found;
}

}  // namespace sconce::repository
