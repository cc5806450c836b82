#ifndef SCONCE_STORAGE_REPOSITORY_QUARANTINE_H_
#define SCONCE_STORAGE_REPOSITORY_QUARANTINE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "storage/catalog/keys.h"
#include "storage/repository/lookup.h"
#include "storage/repository/store.h"

// What happens when stored bytes turn out wrong, and when a push brings the right ones.
namespace sconce::repository {

// Marks the chunk bad, so that no push shares it, and quarantines every version and module that refers to it: they
// leave the metric index, and `latest` and `best` fall back. Does nothing when the chunk is not stored at `blob` and
// `offset` any more (somebody stored it anew). Safe to repeat.
absl::Status QuarantineChunk(Store& store, uint64_t project_uid, const Digest& chunk, const blob::BlobId& blob,
                             int64_t offset);

// For a manifest whose bytes are wrong: quarantines its version or module, unless its manifest stands elsewhere by now.
// Safe to repeat.
absl::Status QuarantineManifest(Store& store, const catalog::Owner& owner, const records::ManifestLocation& at);

// A chunk that there is no record of although somebody (`owner`, a condition that the owner is unchanged) needs it:
// gives it one that says it is bad, so that a push of the content heals, and quarantines whoever refers to it.
// `placeholder` has size and XXH3.
absl::Status QuarantineLostChunk(Store& store, uint64_t project_uid, const Digest& chunk,
                                 const records::ChunkRecord& placeholder, const catalog::Condition& owner);

// The opposite of QuarantineChunk and QuarantineManifest, for bytes that were found right where they stand: somebody
// put the file back from a backup, or it was the memory that was wrong. Nothing happens when they are not marked bad.
absl::Status HealChunkInPlace(Store& store, uint64_t project_uid, const Digest& chunk, const blob::BlobId& blob,
                              int64_t offset);
absl::Status HealManifestInPlace(Store& store, const catalog::Owner& owner, const records::ManifestLocation& at);

// An object whose manifest was damaged where it stood (`from`) and stands whole in another blob now.
struct RestoredManifest {
  catalog::Owner owner;
  catalog::Condition unchanged;  // its record
  records::ManifestLocation from, to;
};

// Adds to the batch of a commit that stores `chunks` anew (all marked bad until now), and has all chunks of the
// manifests in `restored`, what ends the quarantine of every version and module that lacks nothing else. Returns the
// runs that change.
absl::StatusOr<std::vector<RunName>> Heal(Store& store, uint64_t project_uid, absl::Span<const Digest> chunks,
                                          absl::Span<const RestoredManifest> restored, catalog::ChangeSet& change);

// To be called when such a batch was applied: tells everybody about the runs.
void Healed(Store& store, absl::Span<const RunName> runs);

// A module of the run by its uid; nullopt when it is gone.
absl::StatusOr<std::optional<Stored<records::ModuleRecord>>> FindModuleByUid(const catalog::CatalogReader& reader,
                                                                             uint64_t run_uid, uint64_t module_uid);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_QUARANTINE_H_
