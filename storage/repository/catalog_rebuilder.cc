// How a catalog comes back:
//
//   1. Deletions are read: from deletions.log, and the tombstones of the snapshot.
//   2. Every blob's footer is read once, to learn which versions and modules there are and in which runs. Then it is
//      decided which of them stay:
//      * what was deleted does not;
//      * of two runs of one name, or two modules of one name in a run, the one with the higher uid does: the other one
//        was deleted, or replaced by the same content;
//      * of two versions pushed with the same request id within its lifetime the later one does: had the first been
//        acknowledged, or only committed, the second would not have been sealed;
//      * an object with footers in two blobs (a compaction was interrupted) is restored from one of them.
//   3. Each object that stays gets its record, index entries and references, with what the snapshot knows of changes
//      after its commit; its request id is answered again.
//   4. Each chunk that is referred to gets a place: the first blob that holds it. If two hold it, the bytes decide.
//   What
//      the snapshot knows to be bad stays bad. A blob that cannot be read gives places only if the snapshot has them.
//   5. Objects with a chunk that is nowhere, or known to be bad, are quarantined; a push of the content heals them, as
//      ever. So is an object that only the snapshot knows, without references, since nobody can say which it had; a
//      push of the same content gives it its manifest and its references again.
//   6. Runs, names, aliases, deployments, counters: as the snapshot has them, raised above every number seen.
//
// Generations and revisions start above whatever the old catalog may have given out (the time in microseconds), so that
// no old etag and no watcher's revision is mistaken for a new one.
#include "storage/repository/catalog_rebuilder.h"

#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/names.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/request_ids.h"
#include "storage/repository/run_creation.h"

namespace sconce::repository {
namespace {

constexpr char kOldFooterMethod[] = "PushCheckpoint";  // the only one there was before footers named it

int64_t Fresh(int64_t now_ns) {
  return now_ns / 1000;
}

std::string Kept(const blob::BlobId& id) {
  return absl::StrCat("blob ", id.Hex(), " of project ", id.project_uid);
}

// Visits what the snapshot has under the prefix; nothing without one.
absl::Status ScanSnapshot(const catalog::CatalogReader* snapshot, const std::string& prefix,
                          absl::FunctionRef<absl::Status(absl::string_view, absl::string_view)> visit) {
  if (snapshot == nullptr) return absl::OkStatus();
  absl::Status status;
  SCONCE_RETURN_IF_ERROR(
      snapshot->Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        status = visit(key, value);
        return status.ok();
      }));
  return status;
}

std::set<Digest> ChunksOf(const format::Manifest& manifest) {
  std::set<Digest> chunks;
  for (const format::Storage& storage : manifest.storages) {
    for (const format::Chunk& chunk : storage.chunks) chunks.insert(chunk.sha256);
  }
  return chunks;
}

}  // namespace

absl::Status RecordWriter::Put(std::string key, std::string value) {
  constexpr size_t kAtOnce = 4000;
  waiting_.insert_or_assign(std::move(key), std::move(value));
  return waiting_.size() < kAtOnce ? absl::OkStatus() : Flush();
}

absl::StatusOr<std::optional<std::string>> RecordWriter::Get(const std::string& key) const {
  const auto found = waiting_.find(key);
  if (found != waiting_.end()) return std::optional<std::string>(found->second);
  return catalog_.Get(key);
}

absl::Status RecordWriter::Flush() {
  catalog::ChangeSet change;
  change.puts.assign(waiting_.begin(), waiting_.end());
  waiting_.clear();
  return change.puts.empty() ? absl::OkStatus() : catalog_.Apply(change).status();
}

absl::Status CatalogRebuilder::Run(const DeletionLogContents& deletions) {
  SCONCE_RETURN_IF_ERROR(TakeDeletions(deletions));
  SCONCE_RETURN_IF_ERROR(TakeSnapshotRuns());
  SCONCE_RETURN_IF_ERROR(ReadFooters());
  ResolveRuns();
  SCONCE_RETURN_IF_ERROR(ResolveObjects());
  SCONCE_RETURN_IF_ERROR(WriteObjects());
  SCONCE_RETURN_IF_ERROR(writer_.Flush());
  SCONCE_RETURN_IF_ERROR(WriteChunks());
  SCONCE_RETURN_IF_ERROR(SalvageChunks());
  SCONCE_RETURN_IF_ERROR(writer_.Flush());
  SCONCE_RETURN_IF_ERROR(QuarantineDamaged());
  SCONCE_RETURN_IF_ERROR(WriteLostOnes());
  SCONCE_RETURN_IF_ERROR(WriteRuns());
  SCONCE_RETURN_IF_ERROR(CopyFromSnapshot());
  return writer_.Flush();
}

absl::Status CatalogRebuilder::TakeDeletions(const DeletionLogContents& deletions) {
  report_.deletion_records_lost = deletions.damaged;
  for (const Deletion& deletion : deletions.deletions) {
    deleted_.insert({static_cast<char>(deletion.kind), deletion.run_uid, deletion.number});
    highest_uid_ = std::max({highest_uid_, deletion.project_uid, deletion.run_uid});
    if (deletion.kind == Deletion::Kind::kModule) highest_uid_ = std::max(highest_uid_, deletion.number);
  }
  SCONCE_RETURN_IF_ERROR(
      ScanSnapshot(snapshot_, catalog::RunTombstonePrefix(), [&](absl::string_view key, absl::string_view) {
        deleted_.insert({'r', catalog::ParseRunTombstoneKey(key).value_or(0), 0});
        return absl::OkStatus();
      }));
  return ScanSnapshot(snapshot_, catalog::TombstonePrefix(), [&](absl::string_view key, absl::string_view) {
    const auto owner = catalog::ParseTombstoneKey(key);
    if (owner) deleted_.insert({static_cast<char>(owner->kind), owner->run_uid, owner->number});
    return absl::OkStatus();
  });
}

bool CatalogRebuilder::IsDeleted(const catalog::Owner& owner) const {
  return deleted_.contains({static_cast<char>(owner.kind), owner.run_uid, owner.number}) ||
         deleted_.contains({'r', owner.run_uid, 0});
}

absl::Status CatalogRebuilder::TakeSnapshotRuns() {
  SCONCE_RETURN_IF_ERROR(ScanSnapshot(
      snapshot_, catalog::ProjectPrefix(), [&](absl::string_view key, absl::string_view value) -> absl::Status {
        SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ProjectRecord>(value));
        projects_[record.uid()] = catalog::ParseProjectKey(key).value_or("");
        highest_uid_ = std::max(highest_uid_, record.uid());
        return absl::OkStatus();
      }));
  return ScanSnapshot(snapshot_, catalog::RunPrefix(), [&](absl::string_view, absl::string_view value) -> absl::Status {
    SCONCE_ASSIGN_OR_RETURN(auto record, ParseRecord<records::RunRecord>(value));
    FoundRun& run = AddRun(record.uid(), record.project_uid(), GetName(record), record.create_time_ns());
    run.last_ns = std::max(run.last_ns, record.update_time_ns());
    run.snapshot = std::move(record);
    return absl::OkStatus();
  });
}

CatalogRebuilder::FoundRun& CatalogRebuilder::AddRun(uint64_t run_uid, uint64_t project_uid, const RunName& name,
                                                     int64_t time_ns) {
  highest_uid_ = std::max({highest_uid_, run_uid, project_uid});
  projects_[project_uid] = name.project;
  const auto [at, fresh] = runs_.emplace(run_uid, FoundRun());
  FoundRun& run = at->second;
  if (fresh) {
    run.project_uid = project_uid;
    run.name = name;
    run.first_ns = time_ns;
  }
  run.first_ns = std::min(run.first_ns, time_ns);
  run.last_ns = std::max(run.last_ns, time_ns);
  return run;
}

absl::StatusOr<std::optional<CatalogRebuilder::Opened>> CatalogRebuilder::Open(const blob::BlobId& id) {
  const auto open = [&]() -> absl::StatusOr<Opened> {
    Opened opened;
    SCONCE_ASSIGN_OR_RETURN(opened.blob, blobs_.Open(id));
    SCONCE_ASSIGN_OR_RETURN(opened.footer, blob::ReadFooter(*opened.blob));
    SCONCE_ASSIGN_OR_RETURN(opened.record, ParseRecord<records::FooterRecord>(AsText(opened.footer.record)));
    const bool named = opened.record.run_uid() != 0;
    if (named) SCONCE_RETURN_IF_ERROR(ValidateRunName({opened.record.project(), opened.record.run()}));
    return opened;
  };
  absl::StatusOr<Opened> opened = open();
  if (opened.ok()) return std::optional<Opened>(*std::move(opened));
  if (HasReason(opened.status(), Reason::DATA_DIR_INCOMPATIBLE)) return opened.status();
  if (unusable_.insert(id).second) {
    report_.not_restored.Add(absl::StrCat(Kept(id), ": ", opened.status().message(),
                                          " (the file stays where it is; what it held is missing)"));
  }
  return std::nullopt;
}

absl::Status CatalogRebuilder::ReadFooters() {
  SCONCE_ASSIGN_OR_RETURN(all_blobs_, blobs_.List());
  for (const blob::BlobId& id : all_blobs_) {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Opened> opened, Open(id));
    if (opened) SCONCE_RETURN_IF_ERROR(AddFound(id, *opened));
  }
  return absl::OkStatus();
}

absl::Status CatalogRebuilder::AddFound(const blob::BlobId& id, const Opened& opened) {
  const records::FooterRecord& footer = opened.record;
  const RunName name{footer.project(), footer.run()};
  FoundObject found;
  found.blob = id;
  if (footer.has_checkpoint()) {
    const records::CheckpointRecord& record = footer.checkpoint();
    found.owner = {catalog::Owner::Kind::kVersion, footer.run_uid(), static_cast<uint64_t>(record.version())};
    found.create_ns = record.create_time_ns();
    if (!footer.request_id().empty()) {
      found.key = catalog::RequestIdKey(id.project_uid, footer.principal(),
                                        footer.request_method().empty() ? kOldFooterMethod : footer.request_method(),
                                        footer.request_id());
    }
    FoundRun& run = AddRun(footer.run_uid(), id.project_uid, name, record.create_time_ns());
    run.highest = std::max(run.highest, record.version());
  } else if (footer.has_module()) {
    const records::ModuleRecord& record = footer.module();
    found.owner = {catalog::Owner::Kind::kModule, footer.run_uid(), record.uid()};
    found.create_ns = record.create_time_ns();
    found.key = record.module();
    highest_uid_ = std::max(highest_uid_, record.uid());
    AddRun(footer.run_uid(), id.project_uid, name, record.create_time_ns());
  } else {
    return absl::OkStatus();  // chunks only: a further part of a version, what compaction kept, or of an open upload
  }
  objects_.push_back(std::move(found));
  return absl::OkStatus();
}

void CatalogRebuilder::ResolveRuns() {
  std::map<std::pair<uint64_t, std::string>, uint64_t> named;
  for (auto& [uid, run] : runs_) {  // in the order of uids: the last one of a name stays
    run.gone = deleted_.contains({'r', uid, 0});
    if (run.gone) continue;
    const auto [at, fresh] = named.emplace(std::make_pair(run.project_uid, run.name.run), uid);
    if (!fresh) {
      runs_[at->second].gone = true;
      at->second = uid;
    }
  }
  for (const auto& [kind, run_uid, number] : deleted_) {
    const auto run = runs_.find(run_uid);
    if (kind == 'c' && run != runs_.end())
      run->second.highest = std::max(run->second.highest, static_cast<int64_t>(number));
  }
}

std::string CatalogRebuilder::NameOf(const catalog::Owner& owner) const {
  const auto run = runs_.find(owner.run_uid);
  return absl::StrCat(run == runs_.end() ? absl::StrCat("run uid ", owner.run_uid) : Display(run->second.name),
                      owner.kind == catalog::Owner::Kind::kModule ? " module uid " : " version ", owner.number);
}

absl::Status CatalogRebuilder::ResolveObjects() {
  std::sort(objects_.begin(), objects_.end(), [](const FoundObject& a, const FoundObject& b) {
    return std::make_tuple(a.owner.kind, a.owner.run_uid, a.owner.number, a.blob) <
           std::make_tuple(b.owner.kind, b.owner.run_uid, b.owner.number, b.blob);
  });
  std::map<std::pair<uint64_t, std::string>, FoundObject*> modules;
  absl::flat_hash_map<std::string, std::vector<FoundObject*>> requests;
  const FoundObject* last = nullptr;
  for (FoundObject& object : objects_) {
    const bool again = last != nullptr && last->owner == object.owner;
    last = &object;
    object.dropped = again || IsDeleted(object.owner) || runs_[object.owner.run_uid].gone;
    if (object.dropped) {
      if (!again) ++report_.deletions_honoured;
      continue;
    }
    if (object.owner.kind == catalog::Owner::Kind::kModule) {
      FoundObject*& newest = modules[{object.owner.run_uid, object.key}];
      if (newest != nullptr) newest->dropped = true;
      newest = &object;
    } else if (!object.key.empty()) {
      requests[object.key].push_back(&object);
    }
  }
  for (auto& [key, same] : requests) {
    std::sort(same.begin(), same.end(), [](const auto* a, const auto* b) { return a->create_ns < b->create_ns; });
    for (size_t i = 0; i + 1 < same.size(); ++i) {
      if (same[i + 1]->create_ns - same[i]->create_ns >= absl::ToInt64Nanoseconds(kRequestIdLifetime)) continue;
      same[i]->dropped = true;
      report_.not_restored.Add(absl::StrCat(NameOf(same[i]->owner), ": sealed, but never committed: ",
                                            NameOf(same[i + 1]->owner), " answered its request"));
    }
  }
  return absl::OkStatus();
}

template <typename Record>
absl::StatusOr<std::optional<Record>> CatalogRebuilder::FromSnapshot(const std::string& key) const {
  if (snapshot_ == nullptr) return std::nullopt;
  SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, snapshot_->Get(key));
  if (!bytes) return std::nullopt;
  SCONCE_ASSIGN_OR_RETURN(Record record, ParseRecord<Record>(*bytes));
  return std::optional<Record>(std::move(record));
}

absl::Status CatalogRebuilder::WriteObjects() {
  for (FoundObject& object : objects_) {
    if (object.dropped) continue;
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Opened> opened, Open(object.blob));
    if (!opened) continue;
    const ByteSpan bytes = opened->footer.manifest;
    const auto manifest = format::DecodeManifest(bytes);
    if (!manifest.ok()) {
      unusable_.insert(object.blob);
      report_.not_restored.Add(
          absl::StrCat(NameOf(object.owner), ": its manifest does not decode: ", manifest.status().message()));
      continue;
    }
    records::ManifestLocation location;
    location.set_blob_id(RawId(object.blob));
    location.set_offset(opened->footer.manifest_offset);
    location.set_size_bytes(static_cast<int64_t>(bytes.size()));
    const Digest digest = Sha256(bytes);
    location.set_digest(digest.AsKey().data(), digest.AsKey().size());
    const uint64_t project_uid = object.blob.project_uid;
    for (const Digest& chunk : ChunksOf(*manifest)) {
      SCONCE_RETURN_IF_ERROR(writer_.Put(catalog::ReferenceKey(project_uid, chunk, object.owner), ""));
    }
    records::BlobRecord blob_record;
    blob_record.set_owner(object.owner.Encode());
    *blob_record.mutable_manifest() = location;
    SCONCE_RETURN_IF_ERROR(writer_.Put(catalog::BlobKey(project_uid, object.blob.id), blob_record.SerializeAsString()));
    ++report_.blobs;
    if (object.owner.kind == catalog::Owner::Kind::kVersion) {
      SCONCE_RETURN_IF_ERROR(WriteVersion(object, *opened, location));
      continue;
    }
    records::ModuleRecord record = opened->record.module();
    *record.mutable_manifest() = location;
    SCONCE_RETURN_IF_ERROR(
        writer_.Put(catalog::ModuleKey(object.owner.run_uid, record.module()), record.SerializeAsString()));
    ++report_.modules;
  }
  return absl::OkStatus();
}

absl::Status CatalogRebuilder::WriteVersion(const FoundObject& object, const Opened& opened,
                                            const records::ManifestLocation& manifest) {
  const uint64_t run_uid = object.owner.run_uid;
  records::CheckpointRecord record = opened.record.checkpoint();
  const std::string key = catalog::CheckpointKey(run_uid, record.version());
  SCONCE_ASSIGN_OR_RETURN(const auto known, FromSnapshot<records::CheckpointRecord>(key));
  if (known) record = *known;
  record.clear_bad_chunks();  // found again below, with the chunks
  record.set_manifest_corrupt(false);
  record.set_generation(Fresh(now_ns_));
  *record.mutable_manifest() = manifest;
  SCONCE_RETURN_IF_ERROR(writer_.Put(key, record.SerializeAsString()));
  FoundRun& run = runs_[run_uid];
  ++run.restored;
  run.newest_restored = std::max(run.newest_restored, record.version());
  ++report_.versions;
  if (snapshot_ != nullptr && !known) {
    report_.unsure.Add(absl::StrCat(NameOf(object.owner), ": newer than the snapshot"));
  }
  return WriteRequest(object, opened);
}

absl::Status CatalogRebuilder::WriteRequest(const FoundObject& object, const Opened& opened) {
  if (object.key.empty() || now_ns_ - object.create_ns >= absl::ToInt64Nanoseconds(kRequestIdLifetime)) {
    return absl::OkStatus();
  }
  records::RequestRecord answer;
  answer.set_run_uid(object.owner.run_uid);
  answer.set_version(static_cast<int64_t>(object.owner.number));
  answer.set_body_digest(opened.record.request_body());
  answer.set_time_ns(object.create_ns);
  ++report_.request_ids;
  return writer_.Put(object.key, answer.SerializeAsString());
}

absl::StatusOr<bool> CatalogRebuilder::IsReferenced(uint64_t project_uid, const Digest& chunk) const {
  bool found = false;
  const std::string prefix = catalog::ReferencePrefix(project_uid, chunk);
  SCONCE_RETURN_IF_ERROR(
      catalog_.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view, absl::string_view) {
        found = true;
        return false;
      }));
  return found;
}

bool CatalogRebuilder::BytesMatch(uint64_t project_uid, const records::ChunkRecord& record) {
  const auto blob = blobs_.Open(ToBlobId(project_uid, record.blob_id()));
  if (!blob.ok()) return false;
  const auto bytes = (*blob)->Read(record.offset(), record.size_bytes());
  return bytes.ok() && Xxh3(*bytes).AsKey() == record.xxh3();
}

absl::Status CatalogRebuilder::WriteChunk(const blob::BlobId& id, const blob::FooterChunk& chunk, bool& used) {
  SCONCE_ASSIGN_OR_RETURN(const bool referenced, IsReferenced(id.project_uid, chunk.sha256));
  if (!referenced) return absl::OkStatus();
  records::ChunkRecord record;
  record.set_blob_id(RawId(id));
  record.set_offset(chunk.offset);
  record.set_size_bytes(chunk.size_bytes);
  record.set_xxh3(chunk.xxh3.AsKey().data(), chunk.xxh3.AsKey().size());
  const std::string key = catalog::ChunkKey(id.project_uid, chunk.sha256);
  SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> there, writer_.Get(key));
  if (there) {
    SCONCE_ASSIGN_OR_RETURN(const auto other, ParseRecord<records::ChunkRecord>(*there));
    if (!other.bad() && BytesMatch(id.project_uid, other)) return absl::OkStatus();
    if (!BytesMatch(id.project_uid, record)) return absl::OkStatus();
    // What the other one leaves may be garbage now.
    SCONCE_RETURN_IF_ERROR(
        writer_.Put(catalog::SuspectBlobKey(id.project_uid, ToBlobId(id.project_uid, other.blob_id()).id), RawId(id)));
  } else {
    SCONCE_ASSIGN_OR_RETURN(const auto known, FromSnapshot<records::ChunkRecord>(key));
    record.set_bad(known && known->bad() && known->blob_id() == record.blob_id() && known->offset() == record.offset());
  }
  used = true;
  return writer_.Put(key, record.SerializeAsString());
}

absl::Status CatalogRebuilder::WriteChunks() {
  for (const blob::BlobId& id : all_blobs_) {
    if (unusable_.contains(id)) continue;
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Opened> opened, Open(id));
    if (!opened) continue;
    bool used = false;
    for (const blob::FooterChunk& chunk : opened->footer.chunks) {
      SCONCE_RETURN_IF_ERROR(WriteChunk(id, chunk, used));
    }
    const std::string key = catalog::BlobKey(id.project_uid, id.id);
    SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> recorded, writer_.Get(key));
    if (!used || recorded) continue;  // unused: the next start moves it to orphans/
    const records::FooterRecord& footer = opened->record;
    records::BlobRecord record;
    if (footer.has_checkpoint() || footer.has_part()) {
      const int64_t version = footer.has_part() ? footer.part().version() : footer.checkpoint().version();
      record.set_owner(
          catalog::Owner{catalog::Owner::Kind::kVersion, footer.run_uid(), static_cast<uint64_t>(version)}.Encode());
    } else if (footer.has_module()) {
      record.set_owner(catalog::Owner{catalog::Owner::Kind::kModule, footer.run_uid(), footer.module().uid()}.Encode());
    }
    if (footer.has_checkpoint() || footer.has_module()) {
      *record.mutable_manifest() = footer.has_module() ? footer.module().manifest() : footer.checkpoint().manifest();
      record.mutable_manifest()->set_blob_id(RawId(id));
      record.mutable_manifest()->set_offset(opened->footer.manifest_offset);
    }
    ++report_.blobs;
    SCONCE_RETURN_IF_ERROR(writer_.Put(key, record.SerializeAsString()));
  }
  return absl::OkStatus();
}

absl::Status CatalogRebuilder::SalvageChunks() {
  for (const blob::BlobId& id : unusable_) {  // kept: somebody may still want to look into it
    SCONCE_RETURN_IF_ERROR(
        writer_.Put(catalog::BlobKey(id.project_uid, id.id), records::BlobRecord().SerializeAsString()));
    ++report_.blobs;
  }
  if (unusable_.empty()) return absl::OkStatus();
  for (const auto& project : projects_) {
    const uint64_t project_uid = project.first;
    const std::string prefix = catalog::ChunkPrefix(project_uid);
    SCONCE_RETURN_IF_ERROR(
        ScanSnapshot(snapshot_, prefix, [&](absl::string_view key, absl::string_view value) -> absl::Status {
          SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(value));
          if (!unusable_.contains(ToBlobId(project_uid, record.blob_id()))) return absl::OkStatus();
          Digest chunk;
          if (!Digest::FromBytes(key.substr(prefix.size()), chunk)) return absl::OkStatus();
          SCONCE_ASSIGN_OR_RETURN(const bool referenced, IsReferenced(project_uid, chunk));
          SCONCE_ASSIGN_OR_RETURN(const auto there, writer_.Get(std::string(key)));
          if (!referenced || there) return absl::OkStatus();
          return writer_.Put(std::string(key), record.SerializeAsString());
        }));
  }
  return absl::OkStatus();
}

}  // namespace sconce::repository
