#ifndef SCONCE_STORAGE_REPOSITORY_COMMIT_H_
#define SCONCE_STORAGE_REPOSITORY_COMMIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/blob/footer.h"
#include "storage/catalog/keys.h"
#include "storage/repository/ingest.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

// From chunks in blobs to something visible; the steps are at the top of commit.cc.
namespace sconce::repository {

using PlacedChunks = absl::flat_hash_map<Digest, PlacedChunk>;

// What an object refers to, and which blobs the new ones of it are in: the first carries the object's footer and is
// always there.
struct ObjectContents {
  const PlacedChunks& chunks;
  std::vector<blob::BlobId> blobs;  // PlacedChunk::blob counts in here
  // Its manifest, of which other objects may have lost theirs (manifest_repair.h).
  ByteSpan manifest;
  // The key of the record that `finish` may replace because it is damaged; that one is not restored.
  std::string replaces = "";
  // The blobs stay when the object is not committed: somebody will try again.
  bool keep_blobs = false;
};

// Rows of the chunk table of the blob `blob`, as a footer wants them.
std::vector<blob::FooterChunk> ChunkTable(const PlacedChunks& chunks, size_t blob);

// Where `manifest` will stand when SealBlob is called with it and a table of `chunk_count` rows. No chunk may be
// appended any more.
absl::StatusOr<records::ManifestLocation> PlaceManifest(blob::BlobWriter& writer, size_t chunk_count,
                                                        ByteSpan manifest);
// Seals the blob with its footer. After an error it does not exist, unless it is resumable.
absl::Status SealBlob(blob::BlobWriter& writer, absl::Span<const blob::FooterChunk> table, ByteSpan manifest,
                      const records::FooterRecord& record);

// Both, for the blob of a push. `make_record` gets the place where the manifest will stand and returns what goes into
// the footer as the object's record.
absl::StatusOr<records::ManifestLocation> SealObject(
    Ingest& ingest, ByteSpan manifest,
    absl::FunctionRef<records::FooterRecord(const records::ManifestLocation&)> make_record);

// Makes the sealed object visible in one batch: its references, its new chunks, its blob, what ends the quarantine of
// others that lacked nothing but what it brings, and what `finish` adds (its own record and what goes with it).
// `finish` runs once per attempt, on the newest state; it returns false when nothing is to be committed after all (a
// retried request), and then, as after an error, the blob is removed and nothing is visible. (When the catalog cannot
// say whether its last write will survive, the blob stays until the next start decides.)
//
// Requires: every chunk is pinned (pin_table.h). CHUNK_CORRUPT when a shared one is not good any more.
absl::StatusOr<bool> CommitObject(Store& store, const ObjectContents& contents, uint64_t project_uid,
                                  const catalog::Owner& owner, const records::ManifestLocation& manifest,
                                  absl::FunctionRef<absl::StatusOr<bool>(catalog::ChangeSet&)> finish);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_COMMIT_H_
