// How the needed part of a blob moves, so that a crash at any moment leaves the old place or the new one, whole:
//
// A blob with a damaged footer moves in the same way, whatever it wastes: what the footer should say is made from the
// catalog. So nothing but a moment's bad luck with both would be lost.
//
//   1. Each live chunk of the old blob is copied into a new one, and its SHA-256 is checked on the copy. A chunk that
//      does not match is quarantined where it is, and its blob is left alone.
//   2. The new blob is sealed: footer, bytes and name are durable. A living owner's footer comes along: its manifest
//      byte for byte, its record with the new place. What dead owners left goes, from several blobs, into one without
//      an owner. Nobody can see the new blob yet; a crash leaves it to orphans/.
//   3. One synced batch moves everything that names the old place: chunk records (each under the condition that it is
//      as it was), the owner's record, and the blobs' own records, the old ones' removed. The owner's generation, and
//      so its etag, stays: nothing about it changed. A batch that is refused is made again from the newest state: a
//      chunk that went elsewhere meanwhile stays there (its copy is dead); when the owner went, or a chunk turned out
//      bad, the new blob is dropped instead.
//   4. The old file is unlinked. A crash before leaves it to orphans/.
//
// Readers that have the old file open go on reading it. One that looked a place up before 3 and opens the file after 4
// looks it up again (stored_object.cc). A push that shares a moved chunk has a condition on its record, is refused, and
// finds it at the new place (commit.cc); pins are on content, not on places. Only this pass removes blobs, so the old
// ones stay until 4. The space kept in reserve may be used: every step gives back more than it takes.
#include "storage/repository/compactor.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/format/manifest.h"
#include "storage/repository/quarantine.h"

namespace sconce::repository {

// An old blob.
struct Compactor::Source {
  blob::BlobId id;
  Stored<records::BlobRecord> record;
  std::shared_ptr<const blob::Blob> blob;
  blob::FooterView footer;
  bool owned = false;
  std::shared_ptr<const std::string> made_record;  // what `footer` points into when it is made
  bool damaged_footer = false;                     // so `footer` is made from what the catalog says
};

// A chunk that was copied.
struct Compactor::Moved {
  blob::FooterChunk place;  // in the new blob
  size_t source = 0;
  int64_t old_offset = 0;
};

struct Compactor::Target {
  std::unique_ptr<blob::BlobWriter> writer;
  blob::AlignedBuffer buffer{format::kChunkBytes};
  std::vector<Moved> moved;
  size_t source = 0;                   // being copied
  records::ManifestLocation manifest;  // of the owner, after Seal
};

absl::Status Compactor::Run(const StopSignal& stop, const Pace& pace, CollectReport& report) {
  if (!changed_) return absl::OkStatus();
  SCONCE_ASSIGN_OR_RETURN(std::vector<WastefulBlob> waste, ReadWaste());
  const std::vector<CompactionGroup> groups = ChooseBlobs(std::move(waste), store_.blobs->GetStats().physical_bytes);
  for (const CompactionGroup& group : groups) {
    if (stop.Requested()) return absl::OkStatus();
    const absl::Status done = Compact(group, stop, pace, report);
    if (HasReason(done, Reason::DISK_FULL)) {
      Log(Severity::kWarn, "compaction_postponed", {{"reason", done.ToString()}});
      return absl::OkStatus();
    }
    SCONCE_RETURN_IF_ERROR(done);
    if (pace.yield && pace.yield()) return absl::OkStatus();
  }
  changed_ = false;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<WastefulBlob>> Compactor::ReadWaste() {
  std::vector<WastefulBlob> waste;
  absl::Status parsed;
  const std::string prefix = catalog::WastePrefix();
  SCONCE_RETURN_IF_ERROR(store_.catalog->Scan(prefix, catalog::PrefixEnd(prefix), false,
                                              [&](absl::string_view key, absl::string_view value) {
                                                const auto fields = catalog::ParseWasteKey(key);
                                                const auto record = ParseRecord<records::WasteRecord>(value);
                                                parsed = record.status();
                                                if (!parsed.ok() || !fields) return parsed.ok();
                                                waste.push_back({{fields->project_uid, fields->id},
                                                                 record->allocated_bytes(),
                                                                 record->live_bytes(),
                                                                 record->footer_bytes(),
                                                                 record->damaged_footer()});
                                                return true;
                                              }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return waste;
}

absl::Status Compactor::Compact(const CompactionGroup& group, const StopSignal& stop, const Pace& pace,
                                CollectReport& report) {
  std::vector<Source> sources;
  for (const WastefulBlob& blob : group) {
    SCONCE_ASSIGN_OR_RETURN(auto source, OpenSource(blob.id));
    if (!source) {
      SCONCE_RETURN_IF_ERROR(LeaveAlone(blob.id));
    } else if (source->owned == blob.IsOwned()) {  // else its owner died since: looked at in the next pass
      sources.push_back(*std::move(source));
    }
  }
  if (sources.empty()) return absl::OkStatus();
  Target target;
  SCONCE_ASSIGN_OR_RETURN(target.writer, store_.blobs->CreateInReserve(sources.front().id.project_uid));
  for (const Source& source : sources) {
    SCONCE_ASSIGN_OR_RETURN(const bool copied, CopyChunks(source, stop, pace, target));
    if (stop.Requested()) return absl::OkStatus();
    if (!copied) return LeaveAlone(source.id);
    ++target.source;
  }
  SCONCE_RETURN_IF_ERROR(Seal(sources, target));
  SCONCE_ASSIGN_OR_RETURN(const bool published, Publish(sources, target));
  if (!published) return absl::OkStatus();
  store_.contents.Clear();
  for (const Source& source : sources) {
    SCONCE_RETURN_IF_ERROR(store_.blobs->Remove(source.id));
    if (source.damaged_footer) {
      Log(Severity::kInfo, "footer_made_anew", {{"blob", source.id.Hex()}, {"now", target.writer->id().Hex()}});
      store_.integrity.NoteDamagedFooterGone();
    }
    ++report.compacted_blobs;
    report.freed_bytes += source.blob->allocated_bytes();
  }
  if (const auto made = store_.blobs->Open(target.writer->id()); made.ok()) {
    report.freed_bytes -= (*made)->allocated_bytes();
  }
  return absl::OkStatus();
}

// nullopt for a blob that cannot be moved: gone, dying, or not readable.
absl::StatusOr<std::optional<Compactor::Source>> Compactor::OpenSource(const blob::BlobId& id) {
  SCONCE_ASSIGN_OR_RETURN(auto record,
                          ReadRecord<records::BlobRecord>(*store_.catalog, catalog::BlobKey(id.project_uid, id.id)));
  if (!record) return std::nullopt;
  SCONCE_ASSIGN_OR_RETURN(const OwnerState state, StateOfOwner(*store_.catalog, record->record));
  if (state == OwnerState::kDying) return std::nullopt;
  const auto blob = store_.blobs->Open(id);
  if (!blob.ok()) return std::nullopt;
  const bool owned = state == OwnerState::kLiving;
  const auto read = blob::ReadFooter(**blob);
  KnownFooter footer;
  if (read.ok()) {
    footer.view = *read;
  } else if (HasReason(read.status(), Reason::DATA_DIR_INCOMPATIBLE)) {
    return std::nullopt;
  } else {
    auto known = FooterByCatalog(*store_.catalog, **blob, record->record, owned);
    if (HasReason(known.status(), Reason::CHUNK_CORRUPT)) return std::nullopt;
    SCONCE_RETURN_IF_ERROR(known.status());
    footer = *std::move(known);
  }
  if (owned && Sha256(footer.view.manifest).AsKey() != record->record.manifest().digest()) return std::nullopt;
  return Source{id, *std::move(record), *blob, std::move(footer.view), owned, std::move(footer.record), !read.ok()};
}

absl::StatusOr<bool> Compactor::CopyChunks(const Source& source, const StopSignal& stop, const Pace& pace,
                                           Target& target) {
  bool usable = true;
  const absl::Status visited =
      VisitLiveChunks(*store_.catalog, source.id, source.footer, [&](const LiveChunk& chunk) -> absl::Status {
        if (stop.Requested()) return absl::CancelledError("the repository is closing");
        SCONCE_ASSIGN_OR_RETURN(usable, Copy(source, chunk, target));
        if (!usable) return absl::CancelledError("a chunk is bad");
        if (pace.wait) pace.wait(rate_.Take(chunk.place.size_bytes));
        return absl::OkStatus();
      });
  if (!visited.ok() && !absl::IsCancelled(visited)) return visited;
  return usable && visited.ok();
}

absl::StatusOr<bool> Compactor::Copy(const Source& source, const LiveChunk& chunk, Target& target) {
  const blob::FooterChunk& place = chunk.place;
  if (chunk.record.bad() || place.size_bytes > target.buffer.capacity()) return false;
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan bytes, source.blob->Read(place.offset, place.size_bytes));
  std::memcpy(target.buffer.data(), bytes.data(), bytes.size());
  const ByteSpan copy(target.buffer.data(), bytes.size());
  if (Sha256(copy) != place.sha256) {
    SCONCE_RETURN_IF_ERROR(QuarantineChunk(store_, source.id.project_uid, place.sha256, source.id, place.offset));
    return false;
  }
  Moved moved{place, target.source, place.offset};
  SCONCE_ASSIGN_OR_RETURN(moved.place.offset, place.size_bytes < blob::kMappableBytes
                                                  ? target.writer->AppendPacked(copy)
                                                  : target.writer->Append(target.buffer, place.size_bytes, true));
  target.moved.push_back(moved);
  return true;
}

absl::Status Compactor::Seal(const std::vector<Source>& sources, Target& target) {
  std::sort(target.moved.begin(), target.moved.end(),
            [](const Moved& a, const Moved& b) { return a.place.offset < b.place.offset; });
  std::vector<blob::FooterChunk> table;
  for (const Moved& moved : target.moved) table.push_back(moved.place);
  SCONCE_ASSIGN_OR_RETURN(const int64_t footer_offset, target.writer->FooterOffset());
  ByteSpan manifest;
  std::string record;
  if (const Source& source = sources.front(); source.owned) {
    manifest = source.footer.manifest;
    target.manifest = source.record.record.manifest();
    target.manifest.set_blob_id(RawId(target.writer->id()));
    target.manifest.set_offset(blob::ManifestOffset(footer_offset, table.size()));
    records::FooterRecord footer;
    if (!footer.ParseFromArray(source.footer.record.data(), static_cast<int>(source.footer.record.size()))) {
      return MakeError(Reason::CHUNK_CORRUPT, "the record in a blob's footer does not parse",
                       {{"blob", source.id.Hex()}});
    }
    if (footer.has_checkpoint()) *footer.mutable_checkpoint()->mutable_manifest() = target.manifest;
    if (footer.has_module()) *footer.mutable_module()->mutable_manifest() = target.manifest;
    record = footer.SerializeAsString();
  }
  const blob::EncodedFooter footer = blob::EncodeFooter(table, manifest, AsBytes(record), footer_offset);
  return target.writer->Seal(AsBytes(footer.bytes));
}

absl::StatusOr<bool> Compactor::MoveChunks(const std::vector<Source>& sources, const Target& target,
                                           catalog::ChangeSet& change, int64_t& live_bytes) {
  const std::string raw_id = RawId(target.writer->id());
  std::vector<std::string> keys;
  for (const Moved& moved : target.moved) {
    keys.push_back(catalog::ChunkKey(sources.front().id.project_uid, moved.place.sha256));
  }
  SCONCE_ASSIGN_OR_RETURN(auto values, store_.catalog->MultiGet(keys));
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!values[i]) continue;
    const Moved& moved = target.moved[i];
    SCONCE_ASSIGN_OR_RETURN(auto record, ParseRecord<records::ChunkRecord>(*values[i]));
    if (record.blob_id() != RawId(sources[moved.source].id) || record.offset() != moved.old_offset) continue;
    if (record.bad()) return false;
    record.set_blob_id(raw_id);
    record.set_offset(moved.place.offset);
    live_bytes += ChunkFootprint(record.size_bytes());
    change.puts.emplace_back(keys[i], record.SerializeAsString());
    change.conditions.push_back({std::move(keys[i]), std::move(values[i])});
  }
  return true;
}

namespace {

// Adds to the batch that the owner's manifest is now at `to`; false when the owner is not there with it at `from`.
template <typename Record>
bool MoveManifest(absl::StatusOr<std::optional<Stored<Record>>>& owner, const records::ManifestLocation& from,
                  const records::ManifestLocation& to, catalog::ChangeSet& change) {
  if (!*owner || (*owner)->record.manifest().blob_id() != from.blob_id()) return false;
  change.conditions.push_back((*owner)->Unchanged());
  *(*owner)->record.mutable_manifest() = to;
  change.puts.emplace_back((*owner)->key, (*owner)->record.SerializeAsString());
  return true;
}

absl::StatusOr<bool> MoveOwner(const catalog::CatalogReader& reader, const records::BlobRecord& blob,
                               const records::ManifestLocation& to, catalog::ChangeSet& change) {
  const std::optional<catalog::Owner> owner = catalog::Owner::Decode(blob.owner());
  if (!owner) return MakeError(Reason::CATALOG_CORRUPT, "the owner of a blob does not parse");
  if (owner->kind == catalog::Owner::Kind::kModule) {
    auto module = FindModuleByUid(reader, owner->run_uid, owner->number);
    SCONCE_RETURN_IF_ERROR(module.status());
    return MoveManifest(module, blob.manifest(), to, change);
  }
  if (owner->kind != catalog::Owner::Kind::kVersion) return false;
  auto version = ReadRecord<records::CheckpointRecord>(
      reader, catalog::CheckpointKey(owner->run_uid, static_cast<int64_t>(owner->number)));
  SCONCE_RETURN_IF_ERROR(version.status());
  return MoveManifest(version, blob.manifest(), to, change);
}

}  // namespace

absl::StatusOr<bool> Compactor::Publish(const std::vector<Source>& sources, const Target& target) {
  const blob::BlobId& id = target.writer->id();
  SCONCE_ASSIGN_OR_RETURN(const auto made, store_.blobs->Open(id));
  const int64_t footer_bytes = sources.front().owned ? FooterBytes(sources.front().footer) : 0;
  bool undecided = false;
  const absl::StatusOr<bool> published = RetryOnConflict([&]() -> absl::StatusOr<bool> {
    catalog::ChangeSet change;
    WastefulBlob waste{id, made->allocated_bytes(), 0, footer_bytes};
    SCONCE_ASSIGN_OR_RETURN(bool go_on, MoveChunks(sources, target, change, waste.live_bytes));
    records::BlobRecord record;
    for (const Source& source : sources) {
      SCONCE_ASSIGN_OR_RETURN(const auto now, store_.catalog->Get(source.record.key));
      go_on = go_on && now == source.record.bytes;
      change.conditions.push_back(source.record.Unchanged());
      change.deletes.push_back(source.record.key);
      change.deletes.push_back(catalog::WasteKey(source.id.project_uid, source.id.id));
      change.deletes.push_back(catalog::SuspectBlobKey(source.id.project_uid, source.id.id));
      if (!source.owned) continue;
      SCONCE_ASSIGN_OR_RETURN(const bool there,
                              MoveOwner(*store_.catalog, source.record.record, target.manifest, change));
      go_on = go_on && there;
      record = source.record.record;
      *record.mutable_manifest() = target.manifest;
    }
    if (!go_on) return false;
    change.puts.emplace_back(catalog::BlobKey(id.project_uid, id.id), record.SerializeAsString());
    if (WasteOf(waste) > 0) {
      records::WasteRecord found;
      found.set_allocated_bytes(waste.allocated_bytes);
      found.set_live_bytes(waste.live_bytes);
      found.set_footer_bytes(waste.footer_bytes);
      change.puts.emplace_back(catalog::WasteKey(id.project_uid, id.id), found.SerializeAsString());
    }
    const absl::Status applied = store_.catalog->Apply(change).status();
    if (applied.ok()) return true;
    undecided = catalog::MayBeApplied(applied);
    return applied;
  });
  // Refused, or never tried: nothing refers to the new blob. Undecided: the next start finds out which one is known.
  if ((!published.ok() || !*published) && !undecided) store_.blobs->Remove(id).IgnoreError();
  return published;
}

absl::Status Compactor::LeaveAlone(const blob::BlobId& id) {
  catalog::ChangeSet change;
  change.deletes.push_back(catalog::WasteKey(id.project_uid, id.id));
  return store_.catalog->Apply(change).status();
}

}  // namespace sconce::repository
