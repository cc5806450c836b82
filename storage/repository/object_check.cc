#include "storage/repository/object_check.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/repository/lookup.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/stored_object.h"

namespace sconce::repository {
namespace {

// What both kinds of owner have.
struct Found {
  catalog::Condition unchanged;
  records::ManifestLocation manifest;
  bool quarantined = false;
};

absl::StatusOr<std::optional<Found>> FindOwner(const catalog::CatalogReader& reader, const catalog::Owner& owner) {
  if (owner.kind == catalog::Owner::Kind::kModule) {
    SCONCE_ASSIGN_OR_RETURN(const auto module, FindModuleByUid(reader, owner.run_uid, owner.number));
    if (!module) return std::nullopt;
    return Found{module->Unchanged(), module->record.manifest(), IsDamaged(module->record)};
  }
  SCONCE_ASSIGN_OR_RETURN(const auto version,
                          ReadRecord<records::CheckpointRecord>(
                              reader, catalog::CheckpointKey(owner.run_uid, static_cast<int64_t>(owner.number))));
  if (!version) return std::nullopt;
  return Found{version->Unchanged(), version->record.manifest(), IsQuarantined(version->record)};
}

// A chunk as the manifest has it.
struct Expected {
  int64_t size_bytes = 0;
  Fingerprint xxh3;
};
using Chunks = absl::flat_hash_map<Digest, Expected>;

Chunks ChunksOf(const format::Manifest& manifest) {
  Chunks chunks;
  for (const format::Storage& storage : manifest.storages) {
    for (size_t i = 0; i < storage.chunks.size(); ++i) {
      const int64_t begin = static_cast<int64_t>(i) * format::kChunkBytes;
      chunks[storage.chunks[i].sha256] = {std::min(format::kChunkBytes, storage.size_bytes - begin),
                                          storage.chunks[i].xxh3};
    }
  }
  return chunks;
}

std::vector<Digest> Digests(const Chunks& chunks) {
  std::vector<Digest> digests;
  digests.reserve(chunks.size());
  for (const auto& entry : chunks) digests.push_back(entry.first);
  std::sort(digests.begin(), digests.end());
  return digests;
}

class ObjectCheck {
 public:
  ObjectCheck(Store& store, const catalog::CatalogReader& reader, uint64_t project_uid, const catalog::Owner& owner,
              const Found& found)
      : store_(store), reader_(reader), project_uid_(project_uid), owner_(owner), found_(found) {}

  absl::Status Run() {
    const auto stored = ReadManifest(store_, project_uid_, found_.manifest);
    if (!stored.ok()) {
      if (!HasReason(stored.status(), Reason::CHUNK_CORRUPT)) return stored.status();
      return ManifestUnreadable();
    }
    const Chunks chunks = ChunksOf(stored->manifest);
    const std::vector<Digest> digests = Digests(chunks);
    for (size_t begin = 0; begin < digests.size(); begin += kStep) {
      SCONCE_RETURN_IF_ERROR(CheckStep(chunks, absl::MakeConstSpan(digests).subspan(begin, kStep)));
    }
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kStep = 1000;

  // The blob may have gone with its version since the snapshot.
  absl::Status ManifestUnreadable() {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Found> now, FindOwner(*store_.catalog, owner_));
    if (!now || now->unchanged.value != found_.unchanged.value) return absl::OkStatus();
    return QuarantineManifest(store_, owner_, found_.manifest);
  }

  absl::Status CheckStep(const Chunks& chunks, absl::Span<const Digest> step) {
    std::vector<std::string> chunk_keys, reference_keys;
    for (const Digest& digest : step) {
      chunk_keys.push_back(catalog::ChunkKey(project_uid_, digest));
      reference_keys.push_back(catalog::ReferenceKey(project_uid_, digest, owner_));
    }
    SCONCE_ASSIGN_OR_RETURN(const auto references, reader_.MultiGet(reference_keys));
    SCONCE_ASSIGN_OR_RETURN(const auto records, reader_.MultiGet(chunk_keys));
    for (size_t i = 0; i < step.size(); ++i) {
      if (!references[i]) SCONCE_RETURN_IF_ERROR(PutBack(reference_keys[i], chunk_keys[i], records[i]));
      const Expected& expected = chunks.at(step[i]);
      if (!records[i]) {
        SCONCE_RETURN_IF_ERROR(LostChunk(step[i], expected));
        continue;
      }
      SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(*records[i]));
      const blob::BlobId blob = ToBlobId(project_uid_, record.blob_id());
      SCONCE_ASSIGN_OR_RETURN(const bool known, IsKnown(blob));
      if (record.bad() ||
          (known && record.size_bytes() == expected.size_bytes && record.xxh3() == expected.xxh3.AsKey())) {
        continue;
      }
      SCONCE_RETURN_IF_ERROR(QuarantineChunk(store_, project_uid_, step[i], blob, record.offset()));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<bool> IsKnown(const blob::BlobId& blob) {
    if (known_blobs_.contains(blob)) return true;
    SCONCE_ASSIGN_OR_RETURN(const auto record, reader_.Get(catalog::BlobKey(blob.project_uid, blob.id)));
    if (record) known_blobs_.insert(blob);
    return record.has_value();
  }

  // Without it the collector would drop a chunk that is needed.
  absl::Status PutBack(const std::string& reference, const std::string& chunk_key,
                       const std::optional<std::string>& chunk) {
    catalog::ChangeSet change;
    change.conditions = {found_.unchanged, {chunk_key, chunk}};
    change.puts.emplace_back(reference, "");
    const absl::Status applied = store_.catalog->Apply(change).status();
    if (catalog::FailedConditionKey(applied)) return absl::OkStatus();  // changed meanwhile: the next check decides
    SCONCE_RETURN_IF_ERROR(applied);
    store_.integrity.CountFailure();
    Log(Severity::kError, "reference_restored",
        {{"run_uid", static_cast<int64_t>(owner_.run_uid)}, {"number", static_cast<int64_t>(owner_.number)}});
    return absl::OkStatus();
  }

  absl::Status LostChunk(const Digest& digest, const Expected& expected) {
    records::ChunkRecord placeholder;
    placeholder.set_size_bytes(expected.size_bytes);
    const absl::string_view xxh3 = expected.xxh3.AsKey();
    placeholder.set_xxh3(xxh3.data(), xxh3.size());
    return QuarantineLostChunk(store_, project_uid_, digest, placeholder, found_.unchanged);
  }

  Store& store_;
  const catalog::CatalogReader& reader_;
  const uint64_t project_uid_;
  const catalog::Owner owner_;
  const Found& found_;
  absl::flat_hash_set<blob::BlobId> known_blobs_;
};

// A store of a release before there was a list of them.
absl::Status ListAsQuarantined(Store& store, const catalog::Owner& owner, const Found& found) {
  const std::string key = catalog::QuarantineKey(owner);
  SCONCE_ASSIGN_OR_RETURN(const auto listed, store.catalog->Get(key));
  if (listed) return absl::OkStatus();
  catalog::ChangeSet change;
  change.conditions = {found.unchanged};
  change.puts.emplace_back(key, "");
  const absl::Status applied = store.catalog->Apply(change).status();
  if (catalog::FailedConditionKey(applied)) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(applied);
  store.integrity.Refresh(*store.catalog);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<bool>> CheckObject(Store& store, uint64_t project_uid, const catalog::Owner& owner) {
  {
    const std::unique_ptr<catalog::CatalogReader> snapshot = store.catalog->Snapshot();
    SCONCE_ASSIGN_OR_RETURN(const std::optional<Found> found, FindOwner(*snapshot, owner));
    if (!found) return std::optional<bool>();
    SCONCE_RETURN_IF_ERROR(ObjectCheck(store, *snapshot, project_uid, owner, *found).Run());
  }
  SCONCE_ASSIGN_OR_RETURN(const std::optional<Found> now, FindOwner(*store.catalog, owner));
  if (!now) return std::optional<bool>();
  if (now->quarantined) SCONCE_RETURN_IF_ERROR(ListAsQuarantined(store, owner, *now));
  return std::optional<bool>(now->quarantined);
}

absl::StatusOr<std::optional<blob::BlobId>> VisitChunks(
    Store& store, uint64_t project_uid, const catalog::Owner& owner,
    absl::FunctionRef<void(const Digest&, const records::ChunkRecord&)> visit) {
  const std::unique_ptr<catalog::CatalogReader> snapshot = store.catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const std::optional<Found> found, FindOwner(*snapshot, owner));
  if (!found) return std::optional<blob::BlobId>();
  const std::optional<blob::BlobId> blob = ToBlobId(project_uid, found->manifest.blob_id());
  const auto stored = ReadManifest(store, project_uid, found->manifest);
  if (!stored.ok()) return blob;
  const std::vector<Digest> digests = Digests(ChunksOf(stored->manifest));
  std::vector<std::string> keys;
  for (const Digest& digest : digests) keys.push_back(catalog::ChunkKey(project_uid, digest));
  SCONCE_ASSIGN_OR_RETURN(const auto values, snapshot->MultiGet(keys));
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) continue;
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(*values[i]));
    visit(digests[i], record);
  }
  return blob;
}

}  // namespace sconce::repository
