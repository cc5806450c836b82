// Deleting happens in four stages, each a loop of bounded batches; a crash between two batches loses nothing, since
// every batch leaves the catalog consistent and every stage finds its work in the catalog:
//
//   1. A deleted run's versions and modules become tombstones.
//   2. From each tombstone the references are dropped. A chunk whose last reference goes loses its record, and the blob
//      it stood in becomes suspect. A chunk that a push in progress has pinned keeps record, reference and tombstone.
//   3. A suspect blob without a live chunk whose own object is gone is forgotten, then unlinked. (A crash in between:
//   the
//      next start finds a blob the catalog does not know, and moves it to orphans/.)
//   4. Request ids older than their lifetime go.
//
// Only the collector removes chunk records, and its passes do not overlap; commits add references under the condition
// that the chunk's record is unchanged, and hold a pin. So a chunk found without references has none until the pin
// table lets somebody have it.
#include "storage/repository/collector.h"

#include <pthread.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/repository/lookup.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/request_ids.h"
#include "storage/repository/stored_object.h"
#include "storage/repository/tombstones.h"

namespace sconce::repository {
namespace {

constexpr size_t kStep = 1000;  // chunks, or keys, of a batch

// Up to `limit` keys (with values) of the prefix.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> Some(const catalog::CatalogReader& reader,
                                                                      const std::string& prefix, size_t limit) {
  std::vector<std::pair<std::string, std::string>> found;
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        found.emplace_back(std::string(key), std::string(value));
        return found.size() < limit;
      }));
  return found;
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> All(const catalog::CatalogReader& reader,
                                                                     const std::string& prefix) {
  return Some(reader, prefix, SIZE_MAX);
}

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

Collector::~Collector() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Collector::Start() {
  Wake();
  thread_ = std::thread([this] { Work(); });
}

void Collector::Wake() {
  MutexLock lock(&mu_);
  woken_ = true;
  wake_.Signal();
}

bool Collector::Stopping() {
  MutexLock lock(&mu_);
  return stopping_;
}

void Collector::Work() {
  ::pthread_setname_np(::pthread_self(), "collector");
  while (true) {
    {
      MutexLock lock(&mu_);
      bool idle = false;
      while (!stopping_ && !woken_ && !idle) idle = wake_.WaitWithTimeout(&mu_, absl::Hours(1));
      if (stopping_) return;
      if (idle) store_.contents.Clear();
      woken_ = false;
    }
    if (const auto report = Collect(); !report.ok()) {
      Log(Severity::kError, "collect_failed", {{"reason", report.status().ToString()}});
    }
  }
}

absl::StatusOr<CollectReport> Collector::Collect() {
  MutexLock pass(&pass_mu_);
  CollectReport report;
  SCONCE_RETURN_IF_ERROR(BuryDeletedRuns());
  SCONCE_RETURN_IF_ERROR(DropReferences(report));
  SCONCE_RETURN_IF_ERROR(RemoveBlobs(report));
  SCONCE_RETURN_IF_ERROR(DropOldRequestIds());
  if (report.versions + report.removed_blobs > 0) {
    Log(Severity::kInfo, "collected",
        {{"versions", report.versions}, {"chunks", report.removed_chunks}, {"blobs", report.removed_blobs}});
  }
  return report;
}

absl::Status Collector::BuryDeletedRuns() {
  SCONCE_ASSIGN_OR_RETURN(const auto runs, All(*store_.catalog, catalog::RunTombstonePrefix()));
  for (const auto& [key, value] : runs) {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::RunTombstoneRecord>(value));
    const uint64_t run_uid = catalog::ParseRunTombstoneKey(key).value_or(0);
    for (bool gone = false; !gone && !Stopping();) {
      SCONCE_ASSIGN_OR_RETURN(gone, BurySomeOf(run_uid, record.project_uid()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Collector::BurySomeOf(uint64_t run_uid, uint64_t project_uid) {
  catalog::ChangeSet change;
  SCONCE_ASSIGN_OR_RETURN(const auto versions, Some(*store_.catalog, catalog::CheckpointPrefix(run_uid), kStep));
  for (const auto& [key, value] : versions) {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::CheckpointRecord>(value));
    change.conditions.push_back({key, value});
    BuryCheckpoint(project_uid, run_uid, record, change);
  }
  SCONCE_ASSIGN_OR_RETURN(const auto modules, Some(*store_.catalog, catalog::ModulePrefix(run_uid), kStep));
  for (const auto& [key, value] : modules) {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ModuleRecord>(value));
    change.conditions.push_back({key, value});
    BuryModule(project_uid, run_uid, record, change);
  }
  SCONCE_ASSIGN_OR_RETURN(const auto aliases, Some(*store_.catalog, catalog::AliasPrefix(run_uid), kStep));
  for (const auto& alias : aliases) change.deletes.push_back(alias.first);
  const bool last = versions.size() < kStep && modules.size() < kStep && aliases.size() < kStep;
  if (last) change.deletes.push_back(catalog::RunTombstoneKey(run_uid));
  const absl::Status applied = store_.catalog->Apply(change).status();
  if (catalog::FailedConditionKey(applied)) return false;  // quarantined at this moment: once more
  SCONCE_RETURN_IF_ERROR(applied);
  return last;
}

absl::Status Collector::DropReferences(CollectReport& report) {
  SCONCE_ASSIGN_OR_RETURN(const auto tombstones, All(*store_.catalog, catalog::TombstonePrefix()));
  for (const auto& [key, value] : tombstones) {
    if (Stopping()) return absl::OkStatus();
    SCONCE_ASSIGN_OR_RETURN(const auto tombstone, ParseRecord<records::TombstoneRecord>(value));
    const std::optional<catalog::Owner> owner = catalog::ParseTombstoneKey(key);
    if (!owner) return MakeError(Reason::CATALOG_CORRUPT, "a tombstone's key does not parse");
    SCONCE_ASSIGN_OR_RETURN(const std::vector<Digest> chunks, ChunksOf(*owner, tombstone));
    bool all = true;
    for (size_t begin = 0; begin < chunks.size() && !Stopping(); begin += kStep) {
      const absl::Span<const Digest> step = absl::MakeConstSpan(chunks).subspan(begin, kStep);
      SCONCE_ASSIGN_OR_RETURN(const bool dropped, DropReferences(tombstone.project_uid(), *owner, step, report));
      all = all && dropped;
    }
    if (Stopping()) return absl::OkStatus();
    if (!all) {
      ++report.postponed;
      continue;
    }
    catalog::ChangeSet change;
    change.deletes.push_back(key);
    const blob::BlobId blob = ToBlobId(tombstone.project_uid(), tombstone.manifest().blob_id());
    change.puts.emplace_back(catalog::SuspectBlobKey(blob.project_uid, blob.id), owner->Encode());
    SCONCE_RETURN_IF_ERROR(store_.catalog->Apply(change).status());
    ++report.versions;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Digest>> Collector::ChunksOf(const catalog::Owner& owner,
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

absl::StatusOr<bool> Collector::DropReferences(uint64_t project_uid, const catalog::Owner& owner,
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
      change.deletes.push_back(record->key);
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

absl::Status Collector::RemoveBlobs(CollectReport& report) {
  SCONCE_ASSIGN_OR_RETURN(const auto suspects, All(*store_.catalog, catalog::SuspectBlobPrefix()));
  for (const auto& [key, value] : suspects) {
    if (Stopping()) return absl::OkStatus();
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
    if (catalog::FailedConditionKey(applied)) continue;  // looked at again in the next pass
    SCONCE_RETURN_IF_ERROR(applied);
    if (!garbage) continue;
    store_.contents.Clear();
    int64_t size_bytes = 0;
    if (const auto blob = store_.blobs->Open(id); blob.ok()) size_bytes = (*blob)->size_bytes();
    SCONCE_RETURN_IF_ERROR(store_.blobs->Remove(id));
    ++report.removed_blobs;
    report.freed_bytes += size_bytes;
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Collector::IsGarbage(const blob::BlobId& id, const records::BlobRecord& record) {
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

absl::StatusOr<bool> Collector::HoldsLiveChunk(const blob::BlobId& id, const records::ManifestLocation& manifest) {
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

absl::Status Collector::DropOldRequestIds() {
  const int64_t now = store_.NowNanos();
  if (now < next_request_sweep_ns_) return absl::OkStatus();
  SCONCE_ASSIGN_OR_RETURN(const auto requests, All(*store_.catalog, catalog::RequestIdPrefix()));
  catalog::ChangeSet change;
  for (const auto& [key, value] : requests) {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::RequestRecord>(value));
    if (now - record.time_ns() < absl::ToInt64Nanoseconds(kRequestIdLifetime)) continue;
    change.conditions.push_back({key, value});
    change.deletes.push_back(key);
  }
  next_request_sweep_ns_ = now + absl::ToInt64Nanoseconds(absl::Hours(1));
  if (change.deletes.empty()) return absl::OkStatus();
  const absl::Status applied = store_.catalog->Apply(change).status();
  return catalog::FailedConditionKey(applied) ? absl::OkStatus() : applied;
}

}  // namespace sconce::repository
