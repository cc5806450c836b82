#include "storage/repository/quarantine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/version_index.h"
#include "storage/repository/best_rule.h"
#include "storage/repository/chunk_index.h"
#include "storage/repository/retirement.h"
#include "storage/repository/run_creation.h"

namespace sconce::repository {
namespace {

absl::StatusOr<std::vector<catalog::Owner>> OwnersOf(const catalog::CatalogReader& reader, uint64_t project_uid,
                                                     const Digest& chunk) {
  std::vector<catalog::Owner> owners;
  const std::string prefix = catalog::ReferencePrefix(project_uid, chunk);
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
        if (const auto reference = catalog::ParseReferenceKey(key)) owners.push_back(reference->owner);
        return true;
      }));
  return owners;
}

// Adds one owner's change to the batch; the run's name, or nullopt when the owner is gone or nothing changes. `edit`
// works on the fields both kinds of owner have, and returns whether it changed something.
using Damage = google::protobuf::RepeatedPtrField<std::string>;
using Edit = absl::FunctionRef<bool(Damage& bad_chunks, bool& manifest_corrupt, records::ManifestLocation& manifest)>;

bool SamePlace(const records::ManifestLocation& a, const records::ManifestLocation& b) {
  return a.blob_id() == b.blob_id() && a.offset() == b.offset();
}

// Keeps the list of what is quarantined.
void Mark(const catalog::Owner& owner, bool was, bool is, catalog::ChangeSet& change) {
  if (was && !is) change.deletes.push_back(catalog::QuarantineKey(owner));
  if (is && !was) change.puts.emplace_back(catalog::QuarantineKey(owner), "");
}

// `at`: where the owner's manifest must stand for the edit to be made; null: anywhere.
absl::StatusOr<std::optional<RunName>> EditOwner(Store& store, const catalog::Owner& owner,
                                                 const records::ManifestLocation* at, Edit edit,
                                                 catalog::ChangeSet& change) {
  const catalog::CatalogReader& reader = *store.catalog;
  if (owner.kind == catalog::Owner::Kind::kUpload) return std::nullopt;  // its commit looks at the chunk again
  SCONCE_ASSIGN_OR_RETURN(const auto run, ReadRecord<records::RunRecord>(reader, catalog::RunKey(owner.run_uid)));
  if (!run) return std::nullopt;  // deleted; the collector is at it
  if (owner.kind == catalog::Owner::Kind::kModule) {
    SCONCE_ASSIGN_OR_RETURN(auto module, FindModuleByUid(reader, owner.run_uid, owner.number));
    if (!module || (at != nullptr && !SamePlace(module->record.manifest(), *at))) return std::nullopt;
    const bool was_damaged = IsDamaged(module->record);
    bool corrupt = module->record.manifest_corrupt();
    records::ManifestLocation manifest = module->record.manifest();
    if (!edit(*module->record.mutable_bad_chunks(), corrupt, manifest)) return std::nullopt;
    *module->record.mutable_manifest() = std::move(manifest);
    module->record.set_manifest_corrupt(corrupt);
    Mark(owner, was_damaged, IsDamaged(module->record), change);
    change.conditions.push_back(module->Unchanged());
    change.puts.emplace_back(module->key, module->record.SerializeAsString());
    return GetName(run->record);
  }
  SCONCE_ASSIGN_OR_RETURN(auto checkpoint,
                          ReadRecord<records::CheckpointRecord>(
                              reader, catalog::CheckpointKey(owner.run_uid, static_cast<int64_t>(owner.number))));
  if (!checkpoint || (at != nullptr && !SamePlace(checkpoint->record.manifest(), *at))) return std::nullopt;
  records::CheckpointRecord& record = checkpoint->record;
  const records::CheckpointRecord before = record;
  const bool was_quarantined = IsQuarantined(record);
  bool corrupt = record.manifest_corrupt();
  records::ManifestLocation manifest = record.manifest();
  if (!edit(*record.mutable_bad_chunks(), corrupt, manifest)) return std::nullopt;
  *record.mutable_manifest() = std::move(manifest);
  record.set_manifest_corrupt(corrupt);
  record.set_generation(record.generation() + 1);
  change.conditions.push_back(checkpoint->Unchanged());
  change.puts.emplace_back(checkpoint->key, record.SerializeAsString());
  Mark(owner, was_quarantined, IsQuarantined(record), change);
  if (was_quarantined != IsQuarantined(record)) {
    const int64_t now = store.NowNanos();
    change.conditions.push_back(run->Unchanged());
    change.puts.emplace_back(run->key, Touched(run->record, now).SerializeAsString());
    catalog::Reindex(owner.run_uid, &before, &record, change);
    change.log.push_back(ChangeEntry(
        was_quarantined ? records::CHANGE_KIND_CHECKPOINT_HEALED : records::CHANGE_KIND_CHECKPOINT_QUARANTINED,
        run->record, record.version(), "", now));
    SCONCE_RETURN_IF_ERROR(LogBestMove(reader, GetBestRule(run->record.settings()), run->record, now, change));
    LookAtRunNow(store, run->record, change);
  }
  return GetName(run->record);
}

// `chunk_key`: of the chunk that is the reason, null when it is none. Should a push store that anew at this moment, the
// owner is left alone.
absl::Status QuarantineOwner(Store& store, const catalog::Owner& owner, const records::ManifestLocation* at,
                             const std::string* chunk_key, Edit edit) {
  std::optional<RunName> changed;
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    catalog::ChangeSet change;
    changed.reset();
    if (chunk_key != nullptr) {
      SCONCE_ASSIGN_OR_RETURN(const auto chunk, ReadRecord<records::ChunkRecord>(*store.catalog, *chunk_key));
      if (!chunk || !chunk->record.bad()) return absl::OkStatus();
      change.conditions.push_back(chunk->Unchanged());
    }
    SCONCE_ASSIGN_OR_RETURN(changed, EditOwner(store, owner, at, edit, change));
    if (!changed) return absl::OkStatus();
    return store.catalog->Apply(change).status();
  }));
  if (!changed) return absl::OkStatus();
  Log(Severity::kError, "quarantined",
      {{"project", changed->project},
       {"run", changed->run},
       {owner.kind == catalog::Owner::Kind::kVersion ? "version" : "module_uid", static_cast<int64_t>(owner.number)}});
  store.integrity.Refresh(*store.catalog);
  store.changes.Notify(*changed);
  return absl::OkStatus();
}

// From here on no commit can add a reference to the chunk: each has the condition that it is good.
absl::Status QuarantineSharers(Store& store, uint64_t project_uid, const Digest& chunk) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<catalog::Owner> owners, OwnersOf(*store.catalog, project_uid, chunk));
  const std::string chunk_key = catalog::ChunkKey(project_uid, chunk);
  for (const catalog::Owner& owner : owners) {
    SCONCE_RETURN_IF_ERROR(
        QuarantineOwner(store, owner, nullptr, &chunk_key, [&](Damage& bad_chunks, bool&, records::ManifestLocation&) {
          const std::string digest(chunk.AsKey());
          if (std::find(bad_chunks.begin(), bad_chunks.end(), digest) != bad_chunks.end()) return false;
          *bad_chunks.Add() = digest;
          return true;
        }));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<Stored<records::ModuleRecord>>> FindModuleByUid(const catalog::CatalogReader& reader,
                                                                             uint64_t run_uid, uint64_t module_uid) {
  std::optional<Stored<records::ModuleRecord>> found;
  absl::Status parsed;
  const std::string prefix = catalog::ModulePrefix(run_uid);
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        auto record = ParseRecord<records::ModuleRecord>(value);
        parsed = record.status();
        if (parsed.ok() && record->uid() == module_uid) {
          found = Stored<records::ModuleRecord>{std::string(key), std::string(value), *std::move(record)};
        }
        return parsed.ok() && !found;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return found;
}

absl::Status QuarantineChunk(Store& store, uint64_t project_uid, const Digest& chunk, const blob::BlobId& blob,
                             int64_t offset) {
  bool marked = false;
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    SCONCE_ASSIGN_OR_RETURN(auto stored,
                            ReadRecord<records::ChunkRecord>(*store.catalog, catalog::ChunkKey(project_uid, chunk)));
    if (!stored || stored->record.blob_id() != RawId(blob) || stored->record.offset() != offset) {
      return absl::OkStatus();
    }
    marked = true;
    if (stored->record.bad()) return absl::OkStatus();
    store.integrity.CountFailure();
    catalog::ChangeSet change;
    change.conditions.push_back(stored->Unchanged());
    stored->record.set_bad(true);
    PutChunk(project_uid, chunk, stored->record, change);  // and it is no candidate for sharing from now on
    return store.catalog->Apply(change).status();
  }));
  if (!marked) return absl::OkStatus();
  return QuarantineSharers(store, project_uid, chunk);
}

absl::Status QuarantineLostChunk(Store& store, uint64_t project_uid, const Digest& chunk,
                                 const records::ChunkRecord& placeholder, const catalog::Condition& owner) {
  catalog::ChangeSet change;
  change.conditions.push_back(owner);
  records::ChunkRecord record = placeholder;
  record.set_blob_id(RawId(blob::BlobId()));
  record.set_bad(true);
  const std::string key = catalog::ChunkKey(project_uid, chunk);
  change.conditions.push_back({key, std::nullopt});
  PutChunk(project_uid, chunk, record, change);
  const absl::Status applied = store.catalog->Apply(change).status();
  if (catalog::FailedConditionKey(applied))
    return absl::OkStatus();  // the owner was deleted, or a push brought the chunk, at this moment
  SCONCE_RETURN_IF_ERROR(applied);
  store.integrity.CountFailure();
  return QuarantineSharers(store, project_uid, chunk);
}

absl::Status QuarantineManifest(Store& store, const catalog::Owner& owner, const records::ManifestLocation& at) {
  return QuarantineOwner(store, owner, &at, nullptr,
                         [&store](Damage&, bool& manifest_corrupt, records::ManifestLocation&) {
                           if (std::exchange(manifest_corrupt, true)) return false;
                           store.integrity.CountFailure();
                           return true;
                         });
}

absl::Status HealChunkInPlace(Store& store, uint64_t project_uid, const Digest& chunk, const blob::BlobId& blob,
                              int64_t offset) {
  std::vector<RunName> runs;
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    runs.clear();
    SCONCE_ASSIGN_OR_RETURN(auto stored,
                            ReadRecord<records::ChunkRecord>(*store.catalog, catalog::ChunkKey(project_uid, chunk)));
    if (!stored || !stored->record.bad() || stored->record.blob_id() != RawId(blob) ||
        stored->record.offset() != offset) {
      return absl::OkStatus();
    }
    catalog::ChangeSet change;
    change.conditions.push_back(stored->Unchanged());
    stored->record.set_bad(false);
    PutChunk(project_uid, chunk, stored->record, change);
    SCONCE_ASSIGN_OR_RETURN(runs, Heal(store, project_uid, {chunk}, {}, change));
    return store.catalog->Apply(change).status();
  }));
  Healed(store, runs);
  return absl::OkStatus();
}

absl::Status HealManifestInPlace(Store& store, const catalog::Owner& owner, const records::ManifestLocation& at) {
  std::optional<RunName> changed;
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    catalog::ChangeSet change;
    SCONCE_ASSIGN_OR_RETURN(
        changed,
        EditOwner(
            store, owner, &at,
            [](Damage&, bool& corrupt, records::ManifestLocation&) { return std::exchange(corrupt, false); }, change));
    return changed ? store.catalog->Apply(change).status() : absl::OkStatus();
  }));
  if (changed) Healed(store, {*changed});
  return absl::OkStatus();
}

void Healed(Store& store, absl::Span<const RunName> runs) {
  if (runs.empty()) return;
  store.integrity.Refresh(*store.catalog);
  for (const RunName& run : runs) {
    Log(Severity::kInfo, "healed", {{"project", run.project}, {"run", run.run}});
    store.changes.Notify(run);
  }
}

absl::StatusOr<std::vector<RunName>> Heal(Store& store, uint64_t project_uid, absl::Span<const Digest> chunks,
                                          absl::Span<const RestoredManifest> restored, catalog::ChangeSet& change) {
  std::vector<catalog::Owner> owners;
  const auto add = [&owners](const catalog::Owner& owner) {
    if (std::find(owners.begin(), owners.end(), owner) == owners.end()) owners.push_back(owner);
  };
  for (const Digest& chunk : chunks) {
    SCONCE_ASSIGN_OR_RETURN(const std::vector<catalog::Owner> sharers, OwnersOf(*store.catalog, project_uid, chunk));
    for (const catalog::Owner& owner : sharers) add(owner);
  }
  for (const RestoredManifest& object : restored) add(object.owner);
  std::vector<RunName> runs;
  for (const catalog::Owner& owner : owners) {
    const auto object =
        std::find_if(restored.begin(), restored.end(), [&](const RestoredManifest& r) { return r.owner == owner; });
    const auto heal = [&](Damage& bad_chunks, bool& corrupt, records::ManifestLocation& manifest) {
      if (object != restored.end()) {  // whether it is as it was then is a condition of the batch
        bad_chunks.Clear();
        corrupt = false;
        manifest = object->to;
        return true;
      }
      const int before = bad_chunks.size();
      bad_chunks.erase(std::remove_if(bad_chunks.begin(), bad_chunks.end(),
                                      [&](const std::string& bad) {
                                        return std::any_of(chunks.begin(), chunks.end(),
                                                           [&](const Digest& chunk) { return chunk.AsKey() == bad; });
                                      }),
                       bad_chunks.end());
      return bad_chunks.size() < before;
    };
    SCONCE_ASSIGN_OR_RETURN(const std::optional<RunName> run, EditOwner(store, owner, nullptr, heal, change));
    if (run) runs.push_back(*run);
  }
  return runs;
}

}  // namespace sconce::repository
