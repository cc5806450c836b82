#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/catalog_rebuilder.h"
#include "storage/repository/lookup.h"
#include "storage/repository/names.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/run_creation.h"

// Steps 5 and 6 of catalog_rebuilder.cc: what is missing, and what only the snapshot knows.
namespace sconce::repository {
namespace {

absl::Status ForEach(const catalog::CatalogReader* reader, const std::string& prefix,
                     absl::FunctionRef<absl::Status(const std::string&, const std::string&)> visit) {
  if (reader == nullptr) return absl::OkStatus();
  absl::Status status;
  SCONCE_RETURN_IF_ERROR(
      reader->Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        status = visit(std::string(key), std::string(value));
        return status.ok();
      }));
  return status;
}

}  // namespace

// A record that says "bad" and points nowhere: reading gives CHUNK_CORRUPT, and a push of the content replaces it.
absl::Status CatalogRebuilder::PutMissingChunk(uint64_t project_uid, const Digest& chunk, const catalog::Owner& owner) {
  const auto object =
      std::lower_bound(objects_.begin(), objects_.end(), owner, [](const FoundObject& a, const catalog::Owner& b) {
        return std::make_tuple(a.owner.kind, a.owner.run_uid, a.owner.number) <
               std::make_tuple(b.kind, b.run_uid, b.number);
      });
  records::ChunkRecord record;
  record.set_blob_id(std::string(16, '\0'));
  record.set_bad(true);
  if (object != objects_.end() && object->owner == owner) {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Opened> opened, Open(object->blob));
    if (opened) {
      SCONCE_ASSIGN_OR_RETURN(const format::Manifest manifest, format::DecodeManifest(opened->footer.manifest));
      for (const format::Storage& storage : manifest.storages) {
        for (size_t i = 0; i < storage.chunks.size(); ++i) {
          if (storage.chunks[i].sha256 != chunk) continue;
          const auto begin = static_cast<int64_t>(i) * format::kChunkBytes;
          record.set_size_bytes(std::min(format::kChunkBytes, storage.size_bytes - begin));
          record.set_xxh3(storage.chunks[i].xxh3.AsKey().data(), storage.chunks[i].xxh3.AsKey().size());
        }
      }
    }
  }
  return writer_.Put(catalog::ChunkKey(project_uid, chunk), record.SerializeAsString());
}

absl::Status CatalogRebuilder::QuarantineDamaged() {
  std::map<std::string, std::vector<Digest>> damaged;  // by owner
  for (const auto& [uid, name] : projects_) {
    const uint64_t project_uid = uid;
    std::optional<Digest> looked_at;
    bool sound = true;
    SCONCE_RETURN_IF_ERROR(ForEach(
        &catalog_, catalog::ReferencePrefix(project_uid),
        [&](const std::string& key, const std::string&) -> absl::Status {
          const auto reference = catalog::ParseReferenceKey(key);
          if (!reference) return absl::OkStatus();
          if (!looked_at || *looked_at != reference->chunk) {
            looked_at = reference->chunk;
            SCONCE_ASSIGN_OR_RETURN(const auto stored, writer_.Get(catalog::ChunkKey(project_uid, reference->chunk)));
            sound = false;
            if (stored) {
              SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(*stored));
              sound = !record.bad();
            } else {
              SCONCE_RETURN_IF_ERROR(PutMissingChunk(project_uid, reference->chunk, reference->owner));
            }
          }
          if (!sound) damaged[reference->owner.Encode()].push_back(reference->chunk);
          return absl::OkStatus();
        }));
  }
  SCONCE_RETURN_IF_ERROR(writer_.Flush());
  for (const auto& [owner, chunks] : damaged) {
    SCONCE_RETURN_IF_ERROR(Quarantine(*catalog::Owner::Decode(owner), chunks));
  }
  return absl::OkStatus();
}

absl::Status CatalogRebuilder::Quarantine(const catalog::Owner& owner, const std::vector<Digest>& chunks) {
  report_.quarantined.Add(absl::StrCat(NameOf(owner), ": ", chunks.size(), " chunks are missing or bad, chunk ",
                                       chunks.front().Hex(), " first"));
  catalog::ChangeSet change;
  if (owner.kind == catalog::Owner::Kind::kModule) {
    SCONCE_ASSIGN_OR_RETURN(auto module, FindModuleByUid(catalog_, owner.run_uid, owner.number));
    if (!module) return absl::OkStatus();
    for (const Digest& chunk : chunks) module->record.add_bad_chunks(chunk.AsKey().data(), chunk.AsKey().size());
    change.puts.emplace_back(module->key, module->record.SerializeAsString());
    change.puts.emplace_back(catalog::QuarantineKey(owner), "");
    return catalog_.Apply(change).status();
  }
  const std::string key = catalog::CheckpointKey(owner.run_uid, static_cast<int64_t>(owner.number));
  SCONCE_ASSIGN_OR_RETURN(auto version, ReadRecord<records::CheckpointRecord>(catalog_, key));
  if (!version) return absl::OkStatus();
  for (const Digest& chunk : chunks) version->record.add_bad_chunks(chunk.AsKey().data(), chunk.AsKey().size());
  change.puts.emplace_back(key, version->record.SerializeAsString());
  change.puts.emplace_back(catalog::QuarantineKey(owner), "");
  return catalog_.Apply(change).status();
}

absl::Status CatalogRebuilder::WriteLostOnes() {
  for (auto& [uid, found] : runs_) {
    const uint64_t run_uid = uid;
    FoundRun& run = found;
    if (run.gone) continue;
    SCONCE_RETURN_IF_ERROR(ForEach(
        snapshot_, catalog::CheckpointPrefix(run_uid),
        [&](const std::string& key, const std::string& value) -> absl::Status {
          SCONCE_ASSIGN_OR_RETURN(auto record, ParseRecord<records::CheckpointRecord>(value));
          const catalog::Owner owner{catalog::Owner::Kind::kVersion, run_uid, static_cast<uint64_t>(record.version())};
          SCONCE_ASSIGN_OR_RETURN(const auto restored, writer_.Get(key));
          if (restored || IsDeleted(owner)) return absl::OkStatus();
          record.set_manifest_corrupt(true);
          record.set_generation(now_ns_ / 1000);
          ++run.restored;
          ++report_.versions;
          report_.quarantined.Add(absl::StrCat(NameOf(owner), ": its blob is gone or its footer is damaged"));
          SCONCE_RETURN_IF_ERROR(writer_.Put(catalog::QuarantineKey(owner), ""));
          return writer_.Put(key, record.SerializeAsString());
        }));
    SCONCE_RETURN_IF_ERROR(ForEach(snapshot_, catalog::ModulePrefix(run_uid),
                                   [&](const std::string& key, const std::string& value) -> absl::Status {
                                     SCONCE_ASSIGN_OR_RETURN(auto record, ParseRecord<records::ModuleRecord>(value));
                                     const catalog::Owner owner{catalog::Owner::Kind::kModule, run_uid, record.uid()};
                                     SCONCE_ASSIGN_OR_RETURN(const auto restored, writer_.Get(key));
                                     if (restored || IsDeleted(owner)) return absl::OkStatus();
                                     record.set_manifest_corrupt(true);
                                     ++report_.modules;
                                     report_.quarantined.Add(
                                         absl::StrCat(NameOf(owner), ": its blob is gone or its footer is damaged"));
                                     SCONCE_RETURN_IF_ERROR(writer_.Put(catalog::QuarantineKey(owner), ""));
                                     return writer_.Put(key, record.SerializeAsString());
                                   }));
  }
  return absl::OkStatus();
}

absl::Status CatalogRebuilder::WriteRuns() {
  const int64_t fresh = now_ns_ / 1000;
  int64_t revision = fresh;
  SCONCE_RETURN_IF_ERROR(ForEach(snapshot_, catalog::LogPrefix(), [&](const std::string& key, const std::string&) {
    revision = std::max(revision, catalog::ParseLogKey(key).value_or(0));
    return absl::OkStatus();
  }));
  for (const auto& [uid, name] : projects_) {
    records::ProjectRecord record;
    record.set_uid(uid);
    SCONCE_RETURN_IF_ERROR(writer_.Put(catalog::ProjectKey(name), record.SerializeAsString()));
    ++report_.projects;
  }
  for (const auto& [uid, found] : runs_) {
    if (found.gone) continue;
    records::RunRecord run =
        found.snapshot ? *found.snapshot : NewRun(found.name, found.project_uid, uid, found.first_ns);
    run.set_update_time_ns(found.last_ns);
    run.set_next_version(std::max(run.next_version(), found.highest + 1));
    run.set_checkpoint_count(found.restored);
    run.set_settings_generation(fresh);
    run.set_generation(fresh);
    catalog::ChangeSet named;
    PutRun(run, named);
    for (auto& [key, value] : named.puts) SCONCE_RETURN_IF_ERROR(writer_.Put(std::move(key), std::move(value)));
    if (!run.hidden()) ++report_.runs;
    SCONCE_RETURN_IF_ERROR(
        writer_.Put(catalog::LogKey(++revision), ChangeEntry(records::CHANGE_KIND_RUN_UPDATED, run, 0, "", now_ns_)));
    if (snapshot_ == nullptr && found.newest_restored > 0) {
      report_.unsure.Add(absl::StrCat(Display(found.name), " version ", found.newest_restored, ": the run's newest"));
    }
  }
  uint64_t next_uid = highest_uid_ + 1;
  if (snapshot_ != nullptr) {
    SCONCE_ASSIGN_OR_RETURN(const auto stored, snapshot_->Get(catalog::NextUidKey()));
    uint64_t there = 0;
    if (stored && absl::SimpleAtoi(*stored, &there)) next_uid = std::max(next_uid, there);
  }
  // As of the first schema: the next start derives the indexes, as it does for the data of an older release.
  SCONCE_RETURN_IF_ERROR(writer_.Put(catalog::SchemaKey(), "1"));
  return writer_.Put(catalog::NextUidKey(), absl::StrCat(next_uid));
}

absl::Status CatalogRebuilder::CopyFromSnapshot() {
  for (const auto& [uid, run] : runs_) {
    const uint64_t run_uid = uid;
    const FoundRun& found = run;
    if (found.gone) continue;
    SCONCE_RETURN_IF_ERROR(ForEach(
        snapshot_, catalog::AliasPrefix(run_uid),
        [&](const std::string& key, const std::string& value) -> absl::Status {
          SCONCE_ASSIGN_OR_RETURN(auto record, ParseRecord<records::AliasRecord>(value));
          SCONCE_ASSIGN_OR_RETURN(const auto version, writer_.Get(catalog::CheckpointKey(run_uid, record.version())));
          if (!version) {
            report_.not_restored.Add(absl::StrCat(Display(found.name), " alias ",
                                                  catalog::ParseAliasKey(key).value_or(""), ": it pointed to version ",
                                                  record.version(), ", which is not there"));
            return absl::OkStatus();
          }
          record.set_run_generation(now_ns_ / 1000);
          ++report_.aliases;
          return writer_.Put(key, record.SerializeAsString());
        }));
  }
  SCONCE_RETURN_IF_ERROR(ForEach(
      snapshot_, catalog::RequestIdPrefix(), [&](const std::string& key, const std::string& value) -> absl::Status {
        SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::RequestRecord>(value));
        const auto run = runs_.find(record.run_uid());
        SCONCE_ASSIGN_OR_RETURN(const auto there, writer_.Get(key));
        if (there || run == runs_.end() || run->second.gone) return absl::OkStatus();
        ++report_.request_ids;
        return writer_.Put(key, value);
      }));
  return ForEach(snapshot_, catalog::DeploymentPrefix(), [&](const std::string& key, const std::string& value) {
    ++report_.deployments;
    return writer_.Put(key, value);
  });
}

}  // namespace sconce::repository
