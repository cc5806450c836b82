#include "storage/repository/blob_contents.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/chunk_index.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/version_records.h"

namespace sconce::repository {

absl::StatusOr<OwnerState> StateOfOwner(const catalog::CatalogReader& reader, const records::BlobRecord& record) {
  if (record.owner().empty() || !record.has_manifest()) return OwnerState::kNone;
  const std::optional<catalog::Owner> owner = catalog::Owner::Decode(record.owner());
  if (!owner) return MakeError(Reason::CATALOG_CORRUPT, "the owner of a blob does not parse");
  SCONCE_ASSIGN_OR_RETURN(const auto tombstone, reader.Get(catalog::TombstoneKey(*owner)));
  if (tombstone) return OwnerState::kDying;
  bool lives = true;  // of another kind: somebody else's to judge
  if (owner->kind == catalog::Owner::Kind::kVersion) {
    SCONCE_ASSIGN_OR_RETURN(const auto version,
                            reader.Get(catalog::CheckpointKey(owner->run_uid, static_cast<int64_t>(owner->number))));
    lives = version.has_value();
  } else if (owner->kind == catalog::Owner::Kind::kModule) {
    SCONCE_ASSIGN_OR_RETURN(const auto module, FindModuleByUid(reader, owner->run_uid, owner->number));
    lives = module.has_value();
  }
  if (!lives) return OwnerState::kNone;
  // What is still there of a deleted run gets its tombstone soon.
  SCONCE_ASSIGN_OR_RETURN(const auto run_tombstone, reader.Get(catalog::RunTombstoneKey(owner->run_uid)));
  return run_tombstone ? OwnerState::kDying : OwnerState::kLiving;
}

absl::Status VisitLiveChunks(const catalog::CatalogReader& reader, const blob::BlobId& id,
                             const blob::FooterView& footer, absl::FunctionRef<absl::Status(const LiveChunk&)> visit) {
  const std::string raw_id = RawId(id);
  std::vector<std::string> keys;
  for (size_t begin = 0; begin < footer.chunks.size(); begin += kStep) {
    const size_t count = std::min(kStep, footer.chunks.size() - begin);
    keys.clear();
    for (size_t i = 0; i < count; ++i) {
      keys.push_back(catalog::ChunkKey(id.project_uid, footer.chunks[begin + i].sha256));
    }
    SCONCE_ASSIGN_OR_RETURN(const auto values, reader.MultiGet(keys));
    for (size_t i = 0; i < count; ++i) {
      if (!values[i]) continue;
      SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(*values[i]));
      const blob::FooterChunk& place = footer.chunks[begin + i];
      if (record.blob_id() != raw_id || record.offset() != place.offset) continue;
      SCONCE_RETURN_IF_ERROR(visit({place, keys[i], *values[i], record}));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> AnyChunkIn(const catalog::CatalogReader& reader, const blob::BlobId& id) {
  bool any = false;
  absl::Status parsed;
  const std::string raw_id = RawId(id);
  const std::string prefix = catalog::ChunkPrefix(id.project_uid);
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view, absl::string_view value) {
        const auto record = ParseRecord<records::ChunkRecord>(value);
        parsed = record.status();
        any = parsed.ok() && record->blob_id() == raw_id;
        return parsed.ok() && !any;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return any;
}

namespace {

absl::Status NoManifestHere() {
  return MakeError(Reason::CHUNK_CORRUPT, "the manifest in the blob is damaged, or not its owner's any more");
}

// What the footer of the blob with its manifest at `at` says about the owner. CHUNK_CORRUPT when that is not where it
// stands.
absl::StatusOr<records::FooterRecord> FooterRecordOf(const catalog::CatalogReader& reader, const catalog::Owner& owner,
                                                     const records::ManifestLocation& at) {
  SCONCE_ASSIGN_OR_RETURN(const auto run, ReadRecord<records::RunRecord>(reader, catalog::RunKey(owner.run_uid)));
  if (!run) return NoManifestHere();
  records::FooterRecord footer = NewFooter(run->record);
  if (owner.kind == catalog::Owner::Kind::kModule) {
    SCONCE_ASSIGN_OR_RETURN(const auto module, FindModuleByUid(reader, owner.run_uid, owner.number));
    if (module) *footer.mutable_module() = module->record;
  } else {
    SCONCE_ASSIGN_OR_RETURN(const auto version,
                            ReadRecord<records::CheckpointRecord>(
                                reader, catalog::CheckpointKey(owner.run_uid, static_cast<int64_t>(owner.number))));
    if (version) *footer.mutable_checkpoint() = version->record;
  }
  const records::ManifestLocation& now =
      footer.has_module() ? footer.module().manifest() : footer.checkpoint().manifest();
  if (now.blob_id() != at.blob_id()) return NoManifestHere();
  return footer;
}

absl::StatusOr<std::vector<blob::FooterChunk>> ChunksIn(const catalog::CatalogReader& reader, const blob::BlobId& id) {
  std::vector<blob::FooterChunk> chunks;
  absl::Status parsed;
  const std::string raw_id = RawId(id);
  const std::string prefix = catalog::ChunkPrefix(id.project_uid);
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        const auto record = ParseRecord<records::ChunkRecord>(value);
        parsed = record.status();
        blob::FooterChunk chunk;
        if (!parsed.ok() || record->blob_id() != raw_id) return parsed.ok();
        if (!Digest::FromBytes(key.substr(prefix.size()), chunk.sha256)) return true;
        chunk.xxh3 = FingerprintOf(*record);
        chunk.offset = record->offset();
        chunk.size_bytes = record->size_bytes();
        chunks.push_back(chunk);
        return true;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  std::sort(chunks.begin(), chunks.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  return chunks;
}

}  // namespace

absl::StatusOr<KnownFooter> FooterByCatalog(const catalog::CatalogReader& reader, const blob::Blob& blob,
                                            const records::BlobRecord& record, bool owned) {
  KnownFooter known;
  SCONCE_ASSIGN_OR_RETURN(known.view.chunks, ChunksIn(reader, blob.id()));
  if (!owned) return known;
  const records::ManifestLocation& at = record.manifest();
  const std::optional<catalog::Owner> owner = catalog::Owner::Decode(record.owner());
  Digest expected;
  if (!owner || at.blob_id() != RawId(blob.id()) || !Digest::FromBytes(at.digest(), expected)) return NoManifestHere();
  SCONCE_ASSIGN_OR_RETURN(const records::FooterRecord footer, FooterRecordOf(reader, *owner, at));
  const bool inside = at.offset() >= 0 && at.size_bytes() >= 0 && at.offset() <= blob.size_bytes() - at.size_bytes();
  if (!inside) return NoManifestHere();
  SCONCE_ASSIGN_OR_RETURN(known.view.manifest, blob.Read(at.offset(), at.size_bytes()));
  if (Sha256(known.view.manifest) != expected) return NoManifestHere();
  known.view.manifest_offset = at.offset();
  known.record = std::make_shared<const std::string>(footer.SerializeAsString());
  known.view.record = AsBytes(*known.record);
  return known;
}

int64_t FooterBytes(const blob::FooterView& footer) {
  return static_cast<int64_t>(blob::EncodedFooterBytes(0, footer.manifest.size(), footer.record.size()));
}

}  // namespace sconce::repository
