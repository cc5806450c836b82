// How a push becomes visible, and why nothing is ever half there:
//
//   1. The number (version, or module uid) is reserved in the catalog, synced: it is never given again
//   (run_creation.h).
//   2. The blob gets its footer (chunk table, manifest, the object's record) and is sealed: bytes, then name, durable.
//      Until step 3 nobody can see it. A crash leaves a sealed blob that the catalog does not know; the next start
//      moves it to orphans/.
//   3. One synced batch adds the record, the references, the new chunks and everything that names the object.
//
// The batch has conditions, so that what it relies on still holds: the run is unchanged; every shared chunk is where it
// was and good; every new chunk is still unknown; every object that is healed is as it was. If another push brought a
// chunk in the meantime, ours is not recorded (those bytes in our blob are dead) and the other one is shared. Chunks
// are pinned since before they were looked up, so the collector has not dropped any. A refused batch is made again from
// the newest state.
#include "storage/repository/commit.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/repository/chunk_index.h"
#include "storage/repository/manifest_repair.h"
#include "storage/repository/quarantine.h"

namespace sconce::repository {
namespace {

// The part of the batch that does not depend on the run. Large (three entries a chunk), so it is made again only when a
// chunk changed under it.
struct ObjectBatch {
  catalog::ChangeSet change;
  std::vector<RunName> healed;
  std::vector<RestoredManifest> restored;
  size_t conditions = 0, puts = 0, deletes = 0, log = 0;  // how much of `change` is this part

  void Mark() {
    conditions = change.conditions.size();
    puts = change.puts.size();
    deletes = change.deletes.size();
    log = change.log.size();
  }
  void DropTheRest() {
    change.conditions.resize(conditions);
    change.puts.resize(puts);
    change.deletes.resize(deletes);
    change.log.resize(log);
  }
  bool Holds(const std::string& key) const {
    return std::any_of(change.conditions.begin(), change.conditions.begin() + static_cast<ptrdiff_t>(conditions),
                       [&](const catalog::Condition& condition) { return condition.key == key; });
  }
};

records::ChunkRecord NewChunk(const blob::BlobId& blob, const PlacedChunk& placed) {
  records::ChunkRecord record;
  record.set_blob_id(RawId(blob));
  record.set_offset(placed.offset);
  record.set_size_bytes(placed.size_bytes);
  const absl::string_view xxh3 = placed.xxh3.AsKey();
  record.set_xxh3(xxh3.data(), xxh3.size());
  return record;
}

absl::StatusOr<ObjectBatch> MakeObjectBatch(Store& store, const ObjectContents& contents, uint64_t project_uid,
                                            const catalog::Owner& owner, const records::ManifestLocation& manifest,
                                            ManifestRepair& repair) {
  ObjectBatch batch;
  SCONCE_ASSIGN_OR_RETURN(batch.restored, repair.Prepare(contents.replaces));
  std::vector<std::string> keys;
  for (const auto& [digest, placed] : contents.chunks) keys.push_back(catalog::ChunkKey(project_uid, digest));
  SCONCE_ASSIGN_OR_RETURN(auto stored, store.catalog->MultiGet(keys));
  std::vector<Digest> healed;
  std::set<blob::BlobId> suspects;
  std::vector<bool> used(contents.blobs.size());
  size_t i = 0;
  for (const auto& [digest, placed] : contents.chunks) {
    std::string& key = keys[i];
    std::optional<std::string>& value = stored[i++];
    batch.change.puts.emplace_back(catalog::ReferenceKey(project_uid, digest, owner), "");
    records::ChunkRecord record;
    if (value) {
      SCONCE_ASSIGN_OR_RETURN(record, ParseRecord<records::ChunkRecord>(*value));
    }
    const bool good = value && !record.bad();
    if (!good && placed.shared) {
      return MakeError(
          Reason::CHUNK_CORRUPT,
          absl::StrCat("the stored chunk ", digest.Hex(),
                       ", which this push shares, was found corrupt meanwhile; push again to store it anew"),
          {{"chunk", digest.Hex()}});
    }
    if (good && !placed.shared)
      suspects.insert(contents.blobs[placed.blob]);  // another push was quicker: our copy is dead
    if (!good) {
      PutChunk(project_uid, digest, NewChunk(contents.blobs[placed.blob], placed), batch.change);
      used[placed.blob] = true;
      if (value) {
        healed.push_back(digest);
        suspects.insert(ToBlobId(project_uid, record.blob_id()));
      }
    }
    batch.change.conditions.push_back({std::move(key), std::move(value)});
  }
  if (contents.keep_blobs) {  // of an upload: it may hold bytes that were not journalled, or that another part has too
    for (size_t b = 0; b < contents.blobs.size(); ++b) {
      if (b == 0 || used[b]) suspects.insert(contents.blobs[b]);
    }
  }
  for (const blob::BlobId& suspect : suspects) {
    batch.change.puts.emplace_back(catalog::SuspectBlobKey(project_uid, suspect.id), RawId(contents.blobs[0]));
  }
  records::BlobRecord blob_record;
  blob_record.set_owner(owner.Encode());
  *blob_record.mutable_manifest() = manifest;
  batch.change.puts.emplace_back(catalog::BlobKey(project_uid, contents.blobs[0].id), blob_record.SerializeAsString());
  for (size_t b = 1; b < contents.blobs.size(); ++b) {
    // Nobody needs the footers of the others, so they have no owner: each lives as long as a chunk in it.
    if (used[b]) batch.change.puts.emplace_back(catalog::BlobKey(project_uid, contents.blobs[b].id), "");
  }
  if (!batch.restored.empty()) {
    std::vector<Digest> all;
    for (const auto& [digest, placed] : contents.chunks) all.push_back(digest);
    SCONCE_RETURN_IF_ERROR(repair.AddTo(batch.restored, all, batch.change));
  }
  if (!healed.empty() || !batch.restored.empty()) {
    SCONCE_ASSIGN_OR_RETURN(batch.healed, Heal(store, project_uid, healed, batch.restored, batch.change));
  }
  batch.Mark();
  return batch;
}

}  // namespace

std::vector<blob::FooterChunk> ChunkTable(const PlacedChunks& chunks, size_t blob) {
  std::vector<blob::FooterChunk> table;
  for (const auto& [digest, placed] : chunks) {
    if (!placed.shared && placed.blob == blob) table.push_back({digest, placed.xxh3, placed.offset, placed.size_bytes});
  }
  std::sort(table.begin(), table.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  return table;
}

absl::StatusOr<records::ManifestLocation> PlaceManifest(blob::BlobWriter& writer, size_t chunk_count,
                                                        ByteSpan manifest) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t footer_offset, writer.FooterOffset());
  records::ManifestLocation location;
  location.set_blob_id(RawId(writer.id()));
  location.set_offset(blob::ManifestOffset(footer_offset, chunk_count));
  location.set_size_bytes(static_cast<int64_t>(manifest.size()));
  const Digest digest = Sha256(manifest);
  location.set_digest(digest.AsKey().data(), digest.AsKey().size());
  return location;
}

absl::Status SealBlob(blob::BlobWriter& writer, absl::Span<const blob::FooterChunk> table, ByteSpan manifest,
                      const records::FooterRecord& record) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t footer_offset, writer.FooterOffset());
  const std::string bytes = record.SerializeAsString();
  return writer.Seal(AsBytes(blob::EncodeFooter(table, manifest, AsBytes(bytes), footer_offset).bytes));
}

absl::StatusOr<records::ManifestLocation> SealObject(
    Ingest& ingest, ByteSpan manifest,
    absl::FunctionRef<records::FooterRecord(const records::ManifestLocation&)> make_record) {
  const std::vector<blob::FooterChunk> table = ChunkTable(ingest.chunks(), 0);
  SCONCE_ASSIGN_OR_RETURN(records::ManifestLocation location, PlaceManifest(ingest.writer(), table.size(), manifest));
  SCONCE_RETURN_IF_ERROR(SealBlob(ingest.writer(), table, manifest, make_record(location)));
  return location;
}

absl::StatusOr<bool> CommitObject(Store& store, const ObjectContents& contents, uint64_t project_uid,
                                  const catalog::Owner& owner, const records::ManifestLocation& manifest,
                                  absl::FunctionRef<absl::StatusOr<bool>(catalog::ChangeSet&)> finish) {
  ManifestRepair repair(store, project_uid, contents.manifest, manifest.digest());
  std::optional<ObjectBatch> batch;
  bool undecided = false;
  const absl::StatusOr<bool> committed = RetryOnConflict([&]() -> absl::StatusOr<bool> {
    if (!batch) {
      SCONCE_ASSIGN_OR_RETURN(batch, MakeObjectBatch(store, contents, project_uid, owner, manifest, repair));
    }
    batch->DropTheRest();
    SCONCE_ASSIGN_OR_RETURN(const bool go_on, finish(batch->change));
    if (!go_on) return false;
    const absl::Status applied = store.catalog->Apply(batch->change).status();
    undecided = catalog::MayBeApplied(applied);
    if (applied.ok() || undecided) repair.Keep(batch->restored);
    if (applied.ok()) return true;
    const std::optional<std::string> key = catalog::FailedConditionKey(applied);
    if (key && batch->Holds(*key)) batch.reset();
    return applied;
  });
  if (!committed.ok() || !*committed) {
    if (undecided || contents.keep_blobs) return committed;
    for (const blob::BlobId& blob : contents.blobs) store.blobs->Remove(blob).IgnoreError();
    return committed;
  }
  Healed(store, batch->healed);
  return true;
}

}  // namespace sconce::repository
