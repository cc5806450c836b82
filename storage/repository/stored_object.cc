// Opening a version: where every chunk stands is looked up once, at one state of the catalog, and the blobs are held
// open from then on. Whatever is deleted or moved later does not matter to this reader.
//
// Between the lookup and the opening of a blob the collector may unlink it. Then the catalog has changed as well, so
// the lookup is done again; a blob that is missing although the catalog still names it afterwards is damage. However
// often things move, nothing is quarantined for having moved.
#include "storage/repository/stored_object.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/lookup.h"
#include "storage/repository/names.h"
#include "storage/repository/quarantine.h"

namespace sconce::repository {
struct ChunkPlace {
  std::shared_ptr<const blob::Blob> blob;
  int64_t offset = 0;
  int64_t size_bytes = 0;
};

// What LocalObject serves from; never changes once loaded, and may be shared by several.
struct Contents {
  StoredManifest manifest;
  std::vector<ChunkPlace> chunks;    // of all bulk storages, in order
  std::vector<size_t> first_chunks;  // by storage: where its chunks begin in `chunks`
};

namespace {

// Below this many nodes and chunks, opening is quick enough to do it every time.
constexpr size_t kCachedSize = 5000;

absl::Status ChunkCorrupt(const Digest& chunk, absl::string_view what) {
  return MakeError(
      Reason::CHUNK_CORRUPT,
      absl::StrCat("chunk ", chunk.Hex(), " ", what,
                   "; every version that shares it is quarantined: push the checkpoint again to heal them"),
      {{"chunk", chunk.Hex()}});
}

// What is wrong with an object that cannot be opened.
struct Damage {
  bool manifest = false;
  std::optional<Digest> chunk;
  blob::BlobId blob;
  int64_t offset = 0;
};

// On CHUNK_CORRUPT `damage` says which part.
absl::StatusOr<std::shared_ptr<const Contents>> Load(Store& store, const catalog::CatalogReader& reader,
                                                     uint64_t project_uid, const records::ManifestLocation& location,
                                                     Damage& damage) {
  damage = {};
  damage.manifest = true;
  auto contents = std::make_shared<Contents>();
  SCONCE_ASSIGN_OR_RETURN(contents->manifest, ReadManifest(store, project_uid, location));
  damage.manifest = false;
  std::vector<Digest> digests;
  std::vector<std::string> keys;
  for (const format::Storage& storage : contents->manifest.manifest.storages) {
    contents->first_chunks.push_back(digests.size());
    for (const format::Chunk& chunk : storage.chunks) {
      digests.push_back(chunk.sha256);
      keys.push_back(catalog::ChunkKey(project_uid, chunk.sha256));
    }
  }
  SCONCE_ASSIGN_OR_RETURN(const auto stored, reader.MultiGet(keys));
  absl::flat_hash_map<blob::BlobId, std::shared_ptr<const blob::Blob>> blobs;
  contents->chunks.reserve(digests.size());
  for (size_t i = 0; i < digests.size(); ++i) {
    if (!stored[i]) return MakeError(Reason::CATALOG_CORRUPT, "a version refers to a chunk the catalog does not have");
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(*stored[i]));
    damage.chunk = digests[i];
    damage.blob = ToBlobId(project_uid, record.blob_id());
    damage.offset = record.offset();
    auto& blob = blobs[damage.blob];
    if (blob == nullptr) {
      SCONCE_ASSIGN_OR_RETURN(blob, store.blobs->Open(damage.blob));
    }
    contents->chunks.push_back({blob, record.offset(), record.size_bytes()});
  }
  return contents;
}

// Loads what `find` (run on a snapshot) names: a record with its project and manifest. Tries again when the catalog
// changed meanwhile; quarantines what is damaged.
struct Target {
  uint64_t project_uid = 0;
  ContentsCache::Key key;
  records::ManifestLocation manifest;
};

// Whether the catalog says at this moment that what could not be read is there.
template <typename Find>
absl::StatusOr<bool> IsStillThere(Store& store, const Target& target, const Damage& damage, Find find) {
  if (damage.manifest) {
    SCONCE_ASSIGN_OR_RETURN(const Target now, find(*store.catalog));
    return now.manifest.blob_id() == target.manifest.blob_id();
  }
  SCONCE_ASSIGN_OR_RETURN(const auto chunk, ReadRecord<records::ChunkRecord>(
                                                *store.catalog, catalog::ChunkKey(target.project_uid, *damage.chunk)));
  return chunk && chunk->record.blob_id() == RawId(damage.blob) && chunk->record.offset() == damage.offset;
}

template <typename Find>
absl::StatusOr<std::shared_ptr<const Contents>> LoadFresh(Store& store, Find find) {
  constexpr int kAttempts = 1000;
  Damage damage;
  Target target;
  absl::Status failure;
  bool still_there = false;
  for (int i = 0; i < kAttempts && !still_there; ++i) {
    const std::unique_ptr<catalog::CatalogReader> snapshot = store.catalog->Snapshot();
    SCONCE_ASSIGN_OR_RETURN(target, find(*snapshot));
    if (std::shared_ptr<const Contents> cached = store.contents.Find(target.key)) return cached;
    auto contents = Load(store, *snapshot, target.project_uid, target.manifest, damage);
    if (contents.ok() && (*contents)->chunks.size() + (*contents)->manifest.manifest.nodes.size() >= kCachedSize) {
      store.contents.Insert(target.key, *contents);
    }
    if (contents.ok() || !HasReason(contents.status(), Reason::CHUNK_CORRUPT)) return contents;
    failure = contents.status();
    SCONCE_ASSIGN_OR_RETURN(still_there, IsStillThere(store, target, damage, find));
  }
  if (!still_there) return MakeError(Reason::SERVER_OVERLOADED, "what the version needs is being moved; try again");
  if (damage.manifest) {
    SCONCE_RETURN_IF_ERROR(QuarantineManifest(store, target.key.owner, target.manifest));
    return failure;
  }
  SCONCE_RETURN_IF_ERROR(QuarantineChunk(store, target.project_uid, *damage.chunk, damage.blob, damage.offset));
  return ChunkCorrupt(*damage.chunk, "is in a blob that is missing or damaged");
}

// Base is OpenCheckpoint or OpenModule, Info what it tells about.
template <typename Base, typename Info>
class LocalObject final : public Base {
 public:
  LocalObject(std::shared_ptr<Store> store, uint64_t project_uid, Info info, std::shared_ptr<const Contents> contents)
      : store_(std::move(store)), project_uid_(project_uid), info_(std::move(info)), contents_(std::move(contents)) {}

  const Info& info() const override { return info_; }
  const format::Manifest& manifest() const override { return contents_->manifest.manifest; }
  ByteSpan manifest_bytes() const override { return contents_->manifest.bytes; }

  absl::StatusOr<MappedBytes> ReadChunk(format::StorageIndex storage, int64_t chunk) const override {
    const ChunkPlace& location = At(storage, chunk);
    const format::Chunk& expected = manifest().storages[storage].chunks[static_cast<size_t>(chunk)];
    if (location.offset <= location.blob->size_bytes() - location.size_bytes) {
      SCONCE_ASSIGN_OR_RETURN(const ByteSpan bytes, location.blob->Read(location.offset, location.size_bytes));
      if (Xxh3(bytes) == expected.xxh3) return MappedBytes{bytes, location.blob};
    }
    if (absl::Status status =
            QuarantineChunk(*store_, project_uid_, expected.sha256, location.blob->id(), location.offset);
        !status.ok()) {
      Log(Severity::kError, "quarantine_failed",
          {{"chunk", expected.sha256.Hex()}, {"reason", std::string(ToStd(status.message()))}});
    }
    return ChunkCorrupt(expected.sha256, "does not have the bytes that were pushed");
  }

  Extent Locate(format::StorageIndex storage, int64_t chunk) const override {
    const ChunkPlace& location = At(storage, chunk);
    return {location.blob->fd(), location.offset, location.size_bytes, location.blob};
  }

 private:
  const ChunkPlace& At(format::StorageIndex storage, int64_t chunk) const {
    SCONCE_CHECK(storage < manifest().storages.size() && chunk >= 0 &&
                 static_cast<size_t>(chunk) < manifest().storages[storage].chunks.size());
    return contents_->chunks[contents_->first_chunks[storage] + static_cast<size_t>(chunk)];
  }

  const std::shared_ptr<Store> store_;
  const uint64_t project_uid_;
  const Info info_;
  const std::shared_ptr<const Contents> contents_;
};

}  // namespace

absl::StatusOr<StoredManifest> ReadManifest(Store& store, uint64_t project_uid,
                                            const records::ManifestLocation& location) {
  StoredManifest stored;
  SCONCE_ASSIGN_OR_RETURN(stored.blob, store.blobs->Open(ToBlobId(project_uid, location.blob_id())));
  Digest expected;
  const bool inside = location.offset() >= 0 && location.size_bytes() >= 0 &&
                      location.offset() <= stored.blob->size_bytes() - location.size_bytes();
  if (inside && Digest::FromBytes(location.digest(), expected)) {
    SCONCE_ASSIGN_OR_RETURN(stored.bytes, stored.blob->Read(location.offset(), location.size_bytes()));
    if (Sha256(stored.bytes) == expected) {
      SCONCE_ASSIGN_OR_RETURN(stored.manifest, format::DecodeManifest(stored.bytes));
      return stored;
    }
  }
  return MakeError(Reason::CHUNK_CORRUPT,
                   "the stored manifest does not have the bytes that were pushed; the version is quarantined: "
                   "push the checkpoint again to heal it");
}

absl::StatusOr<std::shared_ptr<const OpenCheckpoint>> OpenStoredCheckpoint(const std::shared_ptr<Store>& store,
                                                                           const CheckpointRef& ref) {
  Checkpoint info;
  uint64_t project_uid = 0;
  const auto find = [&](const catalog::CatalogReader& reader) -> absl::StatusOr<Target> {
    SCONCE_ASSIGN_OR_RETURN(const FoundCheckpoint found, FindCheckpoint(reader, ref));
    const records::CheckpointRecord& record = found.checkpoint.record;
    const uint64_t run_uid = found.run.record.uid();
    if (IsQuarantined(record)) {
      return MakeError(Reason::CHECKPOINT_QUARANTINED,
                       absl::StrCat("version ", record.version(), " of run ", Display(ref.run),
                                    " is quarantined: some of its bytes are damaged; push the checkpoint again to heal "
                                    "it, or use another version"),
                       {{"run", Display(ref.run)}, {"version", absl::StrCat(record.version())}});
    }
    info = ToCheckpoint(ref.run, record);
    SCONCE_ASSIGN_OR_RETURN(auto aliases, AliasesByVersion(reader, run_uid));
    info.aliases = std::move(aliases[record.version()]);
    project_uid = found.run.record.project_uid();
    const catalog::Owner owner{catalog::Owner::Kind::kVersion, run_uid, static_cast<uint64_t>(record.version())};
    return Target{project_uid, {owner, record.generation()}, record.manifest()};
  };
  SCONCE_ASSIGN_OR_RETURN(auto contents, LoadFresh(*store, find));
  return std::make_shared<LocalObject<OpenCheckpoint, Checkpoint>>(store, project_uid, std::move(info),
                                                                   std::move(contents));
}

absl::StatusOr<std::shared_ptr<const OpenModule>> OpenStoredModule(const std::shared_ptr<Store>& store,
                                                                   const RunName& run, const std::string& module) {
  Module info;
  uint64_t project_uid = 0;
  const auto find = [&](const catalog::CatalogReader& reader) -> absl::StatusOr<Target> {
    SCONCE_ASSIGN_OR_RETURN(const auto found_run, FindRun(reader, run));
    SCONCE_ASSIGN_OR_RETURN(const auto found, FindModule(reader, found_run.record, module));
    if (IsDamaged(found.record)) {
      return MakeError(Reason::CHUNK_CORRUPT,
                       absl::StrCat("some bytes of module ", module, " of run ", Display(run),
                                    " are damaged; push it again to heal it"),
                       {{"run", Display(run)}, {"module", module}});
    }
    info = ToModule(run, found.record);
    project_uid = found_run.record.project_uid();
    const catalog::Owner owner{catalog::Owner::Kind::kModule, found_run.record.uid(), found.record.uid()};
    return Target{project_uid, {owner, 0}, found.record.manifest()};  // one chunk in 4 MiB: not cached
  };
  SCONCE_ASSIGN_OR_RETURN(auto contents, LoadFresh(*store, find));
  return std::make_shared<LocalObject<OpenModule, Module>>(store, project_uid, std::move(info), std::move(contents));
}

}  // namespace sconce::repository
