#include "tests/support/store_audit.h"

#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file_system.h"
#include "base/status_macros.h"
#include "storage/blob/footer.h"
#include "storage/blob/local_blob_store.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/records.pb.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "storage/format/manifest_codec.h"
#include "tests/support/upload_audit.h"

namespace sconce {
namespace {

namespace records = ::sconce::storage::v1;
using catalog::Owner;

std::string Name(const Owner& owner) {
  const char* kind = owner.kind == Owner::Kind::kVersion ? "version " : "module ";
  if (owner.kind == Owner::Kind::kUpload) kind = "upload ";
  return absl::StrCat(kind, owner.run_uid, "/", owner.number);
}

int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

blob::BlobId ToId(uint64_t project_uid, absl::string_view raw) {
  blob::BlobId id;
  id.project_uid = project_uid;
  if (raw.size() == id.id.size()) std::copy(raw.begin(), raw.end(), id.id.begin());
  return id;
}

// A version or module that exists.
struct LiveObject {
  Owner owner;
  uint64_t project_uid = 0;
  records::ManifestLocation manifest;
  std::set<std::string> bad_chunks;
  bool manifest_corrupt = false;
};

struct KnownBlob {
  std::shared_ptr<const blob::Blob> file;  // null: missing or not readable
  blob::FooterView footer;
  absl::flat_hash_map<Digest, blob::FooterChunk> table;
  std::optional<records::BlobRecord> record;
  int64_t live_chunk_bytes = 0;
};

class Auditor {
 public:
  Auditor(const catalog::CatalogReader& catalog, blob::BlobStore& blobs, const StoreAuditOptions& options)
      : catalog_(catalog), blobs_(blobs), options_(options) {}

  absl::StatusOr<StoreAudit> Run() {
    SCONCE_RETURN_IF_ERROR(ReadDeletions());
    SCONCE_RETURN_IF_ERROR(ReadRuns());
    SCONCE_RETURN_IF_ERROR(ReadObjects());
    SCONCE_RETURN_IF_ERROR(CheckNames());
    SCONCE_RETURN_IF_ERROR(ReadBlobs());
    for (const auto& [key, object] : objects_) ReadReferencesOf(object);
    SCONCE_RETURN_IF_ERROR(ReadUploads());
    SCONCE_RETURN_IF_ERROR(CheckReferences());
    SCONCE_RETURN_IF_ERROR(CheckChunks());
    SCONCE_RETURN_IF_ERROR(CheckFingerprints());
    CheckBlobs();
    SCONCE_RETURN_IF_ERROR(CheckLog());
    return std::move(audit_);
  }

 private:
  template <typename... Parts>
  void Contradiction(const Parts&... parts) {
    audit_.contradictions.push_back(absl::StrCat(parts...));
  }
  template <typename... Parts>
  void Leak(const Parts&... parts) {
    audit_.leaks.push_back(absl::StrCat(parts...));
  }

  absl::Status EachKey(const std::string& prefix, absl::FunctionRef<void(absl::string_view, absl::string_view)> visit) {
    return catalog_.Scan(prefix, catalog::PrefixEnd(prefix), false,
                         [&](absl::string_view key, absl::string_view value) {
                           visit(key, value);
                           return true;
                         });
  }
  template <typename Record>
  absl::Status Each(const std::string& prefix, absl::FunctionRef<void(absl::string_view, const Record&)> visit) {
    return EachKey(prefix, [&](absl::string_view key, absl::string_view value) {
      Record record;
      if (record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
        visit(key, record);
      } else {
        Contradiction("record ", Quoted(key), " does not parse");
      }
    });
  }

  // What is being deleted: its parts may lie about until the collector has been there.
  absl::Status ReadDeletions() {
    SCONCE_RETURN_IF_ERROR(EachKey(catalog::RunTombstonePrefix(), [&](absl::string_view key, absl::string_view) {
      const uint64_t run_uid = catalog::ParseRunTombstoneKey(key).value_or(0);
      dying_runs_.insert(run_uid);
      Leak("deleted run ", run_uid, " is not buried");
    }));
    SCONCE_RETURN_IF_ERROR(
        Each<records::TombstoneRecord>(catalog::TombstonePrefix(), [&](absl::string_view key, const auto&) {
          const std::optional<Owner> owner = catalog::ParseTombstoneKey(key);
          if (!owner) return Contradiction("tombstone key ", Quoted(key), " does not parse");
          dying_.insert(owner->Encode());
          Leak("deleted ", Name(*owner), " still has references");
        }));
    return EachKey(catalog::SuspectBlobPrefix(), [&](absl::string_view key, absl::string_view) {
      const auto fields = catalog::ParseSuspectBlobKey(key);
      Leak("blob ", fields ? ToHex(fields->id) : "?", " is suspected and not looked at");
    });
  }

  absl::Status ReadRuns() {
    std::map<std::string, uint64_t> projects;
    std::set<uint64_t> uids;
    SCONCE_RETURN_IF_ERROR(
        Each<records::ProjectRecord>(catalog::ProjectPrefix(), [&](absl::string_view key, const auto& record) {
          projects[catalog::ParseProjectKey(key).value_or("")] = record.uid();
          if (!uids.insert(record.uid()).second) Contradiction("uid ", record.uid(), " is used twice");
        }));
    SCONCE_RETURN_IF_ERROR(Each<records::RunRecord>(catalog::RunPrefix(), [&](absl::string_view key, const auto& run) {
      if (key != catalog::RunKey(run.uid())) Contradiction("run ", run.uid(), " stands under another key");
      if (projects[run.project()] != run.project_uid()) Contradiction("run ", run.uid(), " is of no project");
      if (!uids.insert(run.uid()).second) Contradiction("uid ", run.uid(), " is used twice");
      runs_[run.uid()] = run;
    }));
    size_t names = 0;
    SCONCE_RETURN_IF_ERROR(Each<records::RunNameRecord>("R", [&](absl::string_view key, const auto& record) {
      ++names;
      const auto run = runs_.find(record.run_uid());
      if (run == runs_.end() || key != catalog::RunNameKey(run->second.project_uid(), run->second.run())) {
        Contradiction("name ", Quoted(key), " leads to no run");
      }
    }));
    if (names != runs_.size()) Contradiction(runs_.size(), " runs have ", names, " names");
    audit_.runs = static_cast<int64_t>(runs_.size());
    return absl::OkStatus();
  }

  // The run an object's key is of; null (and said) when there is none.
  const records::RunRecord* RunOf(uint64_t run_uid, absl::string_view what) {
    const auto run = runs_.find(run_uid);
    if (run != runs_.end()) return &run->second;
    if (!dying_runs_.contains(run_uid)) Contradiction(what, " is of run ", run_uid, ", which does not exist");
    return nullptr;
  }

  template <typename Record>
  void AddObject(const Owner& owner, uint64_t project_uid, const Record& record) {
    LiveObject object{owner, project_uid, record.manifest(), {}, record.manifest_corrupt()};
    object.bad_chunks.insert(record.bad_chunks().begin(), record.bad_chunks().end());
    if (dying_.contains(owner.Encode())) Contradiction(Name(owner), " exists and has a tombstone");
    objects_.emplace(owner.Encode(), std::move(object));
  }

  absl::Status ReadObjects() {
    std::map<uint64_t, int64_t> counts;
    SCONCE_RETURN_IF_ERROR(Each<records::CheckpointRecord>("c", [&](absl::string_view key, const auto& record) {
      const std::optional<Owner> owner = Owner::Decode(key);  // the same 17 bytes
      if (!owner || static_cast<int64_t>(owner->number) != record.version()) {
        return Contradiction("version key ", Quoted(key), " is not that of its record");
      }
      const records::RunRecord* run = RunOf(owner->run_uid, Name(*owner));
      if (run == nullptr) return;
      if (record.version() <= 0 || record.version() >= run->next_version() || run->hidden()) {
        Contradiction(Name(*owner), " was never given out");
      }
      ++counts[run->uid()];
      ++audit_.versions;
      AddObject(*owner, run->project_uid(), record);
      AddIndex(run->uid(), record);
    }));
    for (const auto& [uid, run] : runs_) {
      if (counts[uid] == run.checkpoint_count()) continue;
      Contradiction("run ", uid, " has ", counts[uid], " versions and counts ", run.checkpoint_count());
    }
    for (const auto& [uid, run] : runs_) {
      SCONCE_RETURN_IF_ERROR(
          Each<records::ModuleRecord>(catalog::ModulePrefix(uid), [&](absl::string_view key, const auto& record) {
            if (catalog::ParseModuleKey(key) != record.module()) Contradiction("module under another name");
            ++audit_.modules;
            AddObject({Owner::Kind::kModule, run.uid(), record.uid()}, run.project_uid(), record);
          }));
    }
    return absl::OkStatus();
  }

  // Not by IndexKeys, which is what is checked.
  void AddIndex(uint64_t run_uid, const records::CheckpointRecord& record) {
    using catalog::NumberField;
    const int64_t version = record.version();
    const bool damaged = record.bad_chunks_size() > 0 || record.manifest_corrupt();
    for (const records::MetricEntry& metric : record.metrics()) {
      const auto key = damaged || std::isnan(metric.value()) ? catalog::LoserMetricKey : catalog::MetricKey;
      index_.insert(key(run_uid, metric.name(), metric.value(), version));
    }
    for (const records::LabelEntry& label : record.labels()) {
      index_.insert(catalog::LabelKey(run_uid, label.key(), label.value(), version));
    }
    index_.insert(catalog::NumberKey(run_uid, NumberField::kCreateTime, record.create_time_ns(), version));
    if (record.has_epoch()) index_.insert(catalog::NumberKey(run_uid, NumberField::kEpoch, record.epoch(), version));
    if (record.has_step()) index_.insert(catalog::NumberKey(run_uid, NumberField::kStep, record.step(), version));
    if (record.pinned()) index_.insert(catalog::NumberKey(run_uid, NumberField::kPinned, 1, version));
    if (record.kind() == records::CHECKPOINT_KIND_OPAQUE) {
      index_.insert(catalog::NumberKey(run_uid, NumberField::kOpaque, 1, version));
    }
    if (damaged) index_.insert(catalog::NumberKey(run_uid, NumberField::kQuarantined, 1, version));
  }

  absl::Status CheckNames() {
    for (const auto& [uid, run] : runs_) {
      SCONCE_RETURN_IF_ERROR(
          Each<records::AliasRecord>(catalog::AliasPrefix(uid), [&](absl::string_view key, const auto& record) {
            const Owner version{Owner::Kind::kVersion, run.uid(), static_cast<uint64_t>(record.version())};
            if (objects_.count(version.Encode()) == 0) {
              Contradiction("alias ", catalog::ParseAliasKey(key).value_or("?"), " points to no version");
            }
          }));
    }
    for (const char letter : {'m', 'M', 'N', 'L'}) {
      SCONCE_RETURN_IF_ERROR(EachKey(std::string(1, letter), [&](absl::string_view key, absl::string_view) {
        if (index_.erase(std::string(key)) > 0) return;
        if (!InDyingRun(key)) Contradiction("index entry ", Quoted(key), " is of no version that is like that");
      }));
    }
    for (const std::string& key : index_) Contradiction("index entry ", Quoted(key), " is missing");
    for (const char letter : {'a', 'd'}) {
      SCONCE_RETURN_IF_ERROR(EachKey(std::string(1, letter), [&](absl::string_view key, absl::string_view) {
        if (key.size() > 9) RunOf(UidAt1(key), absl::StrCat("record ", Quoted(key)));
      }));
    }
    return absl::OkStatus();
  }

  static uint64_t UidAt1(absl::string_view key) {
    uint64_t uid = 0;
    for (size_t i = 1; i <= 8; ++i) uid = uid << 8 | static_cast<uint8_t>(key[i]);
    return uid;
  }
  bool InDyingRun(absl::string_view key) const { return key.size() > 9 && dying_runs_.contains(UidAt1(key)); }

  absl::Status ReadBlobs() {
    SCONCE_ASSIGN_OR_RETURN(const std::vector<blob::BlobId> files, blobs_.List());
    for (const blob::BlobId& id : files) OpenBlob(id);
    SCONCE_RETURN_IF_ERROR(
        Each<records::BlobRecord>(catalog::BlobPrefix(), [&](absl::string_view key, const auto& record) {
          const auto fields = catalog::ParseBlobKey(key);
          if (!fields) return Contradiction("blob key ", Quoted(key), " does not parse");
          const blob::BlobId id{fields->project_uid, fields->id};
          KnownBlob& known = blobs_by_id_[id];
          known.record = record;
          ++audit_.blobs;
          if (known.file == nullptr) Contradiction("blob ", id.Hex(), " has a record and no whole file");
        }));
    return absl::OkStatus();
  }

  void OpenBlob(const blob::BlobId& id) {
    KnownBlob& known = blobs_by_id_[id];
    const auto file = blobs_.Open(id);
    if (!file.ok()) return Contradiction("blob ", id.Hex(), ": ", file.status().message());
    auto footer = blob::ReadFooter(**file);
    if (!footer.ok()) return Contradiction("blob ", id.Hex(), ": ", footer.status().message());
    known.file = *file;
    known.footer = *std::move(footer);
    for (const blob::FooterChunk& chunk : known.footer.chunks) known.table.emplace(chunk.sha256, chunk);
  }

  // From the object's manifest, where its blob has it.
  void ReadReferencesOf(const LiveObject& object) {
    const records::ManifestLocation& location = object.manifest;
    const auto known = blobs_by_id_.find(ToId(object.project_uid, location.blob_id()));
    if (known == blobs_by_id_.end() || known->second.file == nullptr || !known->second.record) {
      return Contradiction("the blob of ", Name(object.owner), " is missing");
    }
    const KnownBlob& blob = known->second;
    if (blob.record->owner() != object.owner.Encode() ||
        blob.record->manifest().SerializeAsString() != location.SerializeAsString()) {
      Contradiction("the record of blob ", known->first.Hex(), " is not for ", Name(object.owner));
    }
    CheckFooterRecord(object, blob);
    if (object.manifest_corrupt) {
      unreadable_.insert(object.owner.Encode());
      return;
    }
    const bool placed = blob.footer.manifest_offset == location.offset() &&
                        static_cast<int64_t>(blob.footer.manifest.size()) == location.size_bytes();
    if (!placed || Sha256(blob.footer.manifest).AsKey() != location.digest()) {
      return Contradiction("the manifest of ", Name(object.owner), " is not where its record says");
    }
    const auto manifest = format::DecodeManifest(blob.footer.manifest);
    if (!manifest.ok()) return Contradiction("the manifest of ", Name(object.owner), " does not decode");
    std::set<std::string> digests;
    for (const format::Storage& storage : manifest->storages) {
      for (const format::Chunk& chunk : storage.chunks) {
        digests.insert(std::string(chunk.sha256.AsKey()));
        references_.insert(catalog::ReferenceKey(object.project_uid, chunk.sha256, object.owner));
        needed_[catalog::ChunkKey(object.project_uid, chunk.sha256)].push_back(&object);
      }
    }
    for (const std::string& bad : object.bad_chunks) {
      if (digests.count(bad) == 0) Contradiction(Name(object.owner), " lacks a chunk it does not refer to");
    }
  }

  // Uploads under way refer to the chunks they share, and keep their files.
  absl::Status ReadUploads() {
    SCONCE_ASSIGN_OR_RETURN(uploads_, ReadOpenUploads(catalog_));
    for (const std::string& key : uploads_.references) {
      references_.insert(key);
      const auto fields = catalog::ParseReferenceKey(key);
      needed_[catalog::ChunkKey(fields->project_uid, fields->chunk)];
    }
    for (const std::string& leak : uploads_.leaks) Leak(leak);
    return absl::OkStatus();
  }

  // What a rebuild of the catalog would make of the blob.
  void CheckFooterRecord(const LiveObject& object, const KnownBlob& blob) {
    records::FooterRecord record;
    if (!record.ParseFromArray(blob.footer.record.data(), static_cast<int>(blob.footer.record.size()))) {
      return Contradiction("the footer's record of ", Name(object.owner), " does not parse");
    }
    const bool version = object.owner.kind == Owner::Kind::kVersion;
    const uint64_t number = version ? static_cast<uint64_t>(record.checkpoint().version()) : record.module().uid();
    const records::ManifestLocation& location = version ? record.checkpoint().manifest() : record.module().manifest();
    if (record.run_uid() != object.owner.run_uid || number != object.owner.number ||
        location.SerializeAsString() != object.manifest.SerializeAsString()) {
      Contradiction("the footer of ", Name(object.owner), " is not its own");
    }
  }

  absl::Status CheckReferences() {
    SCONCE_RETURN_IF_ERROR(EachKey("f", [&](absl::string_view key, absl::string_view) {
      ++audit_.references;
      if (references_.erase(std::string(key)) > 0) return;
      const auto fields = catalog::ParseReferenceKey(key);
      if (!fields) return Contradiction("reference ", Quoted(key), " does not parse");
      const std::string owner = fields->owner.Encode();
      if (unreadable_.contains(owner)) {  // nobody can say: taken as they are
        needed_[catalog::ChunkKey(fields->project_uid, fields->chunk)];
      } else if (dying_.contains(owner) || dying_runs_.contains(fields->owner.run_uid)) {
        needed_[catalog::ChunkKey(fields->project_uid, fields->chunk)];
      } else {
        Leak("reference of ", Name(fields->owner), " to chunk ", fields->chunk.Hex());
      }
    }));
    for (const std::string& key : references_) {
      const auto fields = catalog::ParseReferenceKey(key);
      Contradiction(Name(fields->owner), " has no reference to its chunk ", fields->chunk.Hex());
    }
    return absl::OkStatus();
  }

  absl::Status CheckChunks() {
    absl::flat_hash_set<std::string> there;
    SCONCE_RETURN_IF_ERROR(Each<records::ChunkRecord>("k", [&](absl::string_view key, const auto& record) {
      ++audit_.chunks;
      there.insert(std::string(key));
      Digest digest;
      if (key.size() != 41 || !Digest::FromBytes(key.substr(9), digest)) {
        return Contradiction("chunk key ", Quoted(key), " does not parse");
      }
      const uint64_t project_uid = UidAt1(key);
      const auto needed = needed_.find(std::string(key));
      if (needed == needed_.end()) {
        Leak("chunk ", digest.Hex(), " has a record and no references");
      } else {
        for (const LiveObject* object : needed->second) {
          if (record.bad() != (object->bad_chunks.count(std::string(digest.AsKey())) > 0)) {
            Contradiction("chunk ", digest.Hex(), " is ", record.bad() ? "bad" : "good", " and ", Name(object->owner),
                          " thinks otherwise");
          }
        }
      }
      CheckPlace(project_uid, digest, record);
      if (record.bad()) return;
      fingerprints_.insert(absl::StrCat(std::string(1, 'i'), key.substr(1, 8), record.xxh3(), key.substr(9)));
    }));
    for (const auto& [key, objects] : needed_) {
      if (there.contains(key) || objects.empty()) continue;
      Contradiction(Name(objects[0]->owner), " needs chunk ", ToHex(AsBytes(absl::string_view(key).substr(9))),
                    ", which has no record");
    }
    return absl::OkStatus();
  }

  void CheckPlace(uint64_t project_uid, const Digest& digest, const records::ChunkRecord& record) {
    const blob::BlobId id = ToId(project_uid, record.blob_id());
    const auto known = blobs_by_id_.find(id);
    if (known == blobs_by_id_.end() || !known->second.record) {
      return Contradiction("chunk ", digest.Hex(), " is in blob ", id.Hex(), ", which does not exist");
    }
    const int64_t padding = record.size_bytes() < blob::kMappableBytes ? blob::kPackAlignment : kDirectAlignment;
    known->second.live_chunk_bytes += RoundUp(record.size_bytes(), padding) + 64;
    if (record.bad() || known->second.file == nullptr) return;
    const auto row = known->second.table.find(digest);
    if (row == known->second.table.end() || row->second.offset != record.offset() ||
        row->second.size_bytes != record.size_bytes() || row->second.xxh3.AsKey() != record.xxh3()) {
      return Contradiction("chunk ", digest.Hex(), " is not where its record says");
    }
    if (!options_.read_chunks) return;
    const auto bytes = known->second.file->Read(record.offset(), record.size_bytes());
    if (!bytes.ok() || Sha256(*bytes) != digest || Xxh3(*bytes).AsKey() != record.xxh3()) {
      Contradiction("chunk ", digest.Hex(), " does not have its bytes");
    }
  }

  // A store without a single entry has no index (or nothing to index: then there is nothing to miss either).
  absl::Status CheckFingerprints() {
    bool indexed = false;
    SCONCE_RETURN_IF_ERROR(EachKey("i", [&](absl::string_view key, absl::string_view) {
      indexed = true;
      if (fingerprints_.erase(std::string(key)) == 0) Leak("fingerprint ", ToHex(AsBytes(key)), " of no good chunk");
    }));
    if (!indexed) return absl::OkStatus();
    for (const std::string& key : fingerprints_) Contradiction("fingerprint ", ToHex(AsBytes(key)), " is missing");
    return absl::OkStatus();
  }

  void CheckBlobs() {
    std::map<uint64_t, int64_t> left_behind;
    for (const auto& [id, known] : blobs_by_id_) {
      if (known.file != nullptr) audit_.physical_bytes += known.file->allocated_bytes();
      if (uploads_.blobs.count(id) > 0) continue;
      if (!known.record) {
        Leak("file of blob ", id.Hex(), ", which the catalog does not know");
        continue;
      }
      const bool owned = known.record->has_manifest() && objects_.count(known.record->owner()) > 0;
      if (owned) {
        const auto manifest = static_cast<int64_t>(known.footer.manifest.size());
        const auto record = static_cast<int64_t>(known.footer.record.size());
        audit_.live_bytes +=
            RoundUp(known.live_chunk_bytes + 64 + RoundUp(manifest, 8) + RoundUp(record, 8) + 96, 4096);
      } else {
        left_behind[id.project_uid] += known.live_chunk_bytes;
      }
      if (known.live_chunk_bytes == 0 && !owned) Leak("blob ", id.Hex(), ", which nobody needs");
    }
    for (const auto& [project, bytes] : left_behind) {
      if (bytes > 0) audit_.live_bytes += RoundUp(bytes + 64 + 96, 4096);
    }
    const std::string prefix = catalog::WastePrefix();
    EachKey(prefix, [&](absl::string_view key, absl::string_view) {
      const auto fields = catalog::ParseWasteKey(key);
      if (fields && blobs_by_id_[{fields->project_uid, fields->id}].record) return;
      Leak("waste is recorded of a blob that does not exist");
    }).IgnoreError();
  }

  absl::Status CheckLog() {
    int64_t last = -1;
    return Each<records::ChangeRecord>(catalog::LogPrefix(), [&](absl::string_view key, const auto&) {
      const int64_t revision = catalog::ParseLogKey(key).value_or(-1);
      if (last >= 0 && revision != last + 1) Contradiction("revision ", revision, " follows ", last);
      last = revision;
    });
  }

  const catalog::CatalogReader& catalog_;
  blob::BlobStore& blobs_;
  const StoreAuditOptions options_;
  StoreAudit audit_;

  OpenUploads uploads_;
  std::map<uint64_t, records::RunRecord> runs_;
  absl::flat_hash_set<uint64_t> dying_runs_;     // deleted, with contents that remain to be buried
  absl::flat_hash_set<std::string> dying_;       // owners with a tombstone
  absl::flat_hash_set<std::string> unreadable_;  // owners whose manifest is known to be damaged
  std::map<std::string, LiveObject> objects_;    // by owner, encoded
  std::map<blob::BlobId, KnownBlob> blobs_by_id_;
  // Expected, and not met yet.
  absl::flat_hash_set<std::string> index_, references_, fingerprints_;
  absl::flat_hash_map<std::string, std::vector<const LiveObject*>> needed_;  // by chunk key
};

// Files where only blobs should be.
absl::Status CheckFiles(const std::string& data_dir, const OpenUploads& uploads, StoreAudit& audit) {
  FileSystem& fs = PosixFileSystem();
  SCONCE_ASSIGN_OR_RETURN(const auto parts, fs.List(data_dir + "/uploads"));
  for (const std::string& part : parts) {
    const std::optional<blob::BlobId> id = blob::ParsePartName(part);
    if (!id || uploads.blobs.count(*id) == 0) audit.leaks.push_back(absl::StrCat("file uploads/", part));
  }
  SCONCE_ASSIGN_OR_RETURN(const auto projects, fs.List(data_dir + "/blobs"));
  for (const std::string& project : projects) {
    const std::string project_dir = absl::StrCat(data_dir, "/blobs/", project);
    const std::optional<uint64_t> uid = blob::ParseProjectDirName(project);
    if (!uid) audit.leaks.push_back(absl::StrCat("file blobs/", project));
    if (!uid) continue;
    SCONCE_ASSIGN_OR_RETURN(const auto shards, fs.List(project_dir));
    for (const std::string& shard : shards) {
      SCONCE_ASSIGN_OR_RETURN(const auto names, fs.List(absl::StrCat(project_dir, "/", shard)));
      for (const std::string& name : names) {
        if (blob::ParseSealedName(*uid, shard, name)) continue;
        audit.leaks.push_back(absl::StrCat("file blobs/", project, "/", shard, "/", name));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoreAudit> AuditStore(const catalog::CatalogReader& catalog, blob::BlobStore& blobs,
                                      const StoreAuditOptions& options) {
  return Auditor(catalog, blobs, options).Run();
}

absl::StatusOr<StoreAudit> AuditDataDir(const std::string& data_dir, const StoreAuditOptions& options) {
  SCONCE_ASSIGN_OR_RETURN(const auto catalog, catalog::RocksDbCatalog::Open(data_dir + "/catalog"));
  blob::LocalBlobStoreOptions blob_options;
  blob_options.data_dir = data_dir;
  SCONCE_ASSIGN_OR_RETURN(const auto blobs, blob::LocalBlobStore::Open(blob_options));
  SCONCE_ASSIGN_OR_RETURN(StoreAudit audit, AuditStore(*catalog, *blobs, options));
  SCONCE_ASSIGN_OR_RETURN(const OpenUploads uploads, ReadOpenUploads(*catalog));
  SCONCE_RETURN_IF_ERROR(CheckFiles(data_dir, uploads, audit));
  return audit;
}

}  // namespace sconce
