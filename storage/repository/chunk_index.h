#ifndef SCONCE_STORAGE_REPOSITORY_CHUNK_INDEX_H_
#define SCONCE_STORAGE_REPOSITORY_CHUNK_INDEX_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/digest.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/record_codec.h"

// A chunk's record and its entry in the fingerprint index change together: whoever stores, marks or drops a chunk does
// it through these.
namespace sconce::repository {

// Stores the record, and the entry; of a bad chunk the entry goes.
void PutChunk(uint64_t project_uid, const Digest& chunk, const records::ChunkRecord& record,
              catalog::ChangeSet& change);
void DeleteChunk(uint64_t project_uid, const Digest& chunk, const records::ChunkRecord& record,
                 catalog::ChangeSet& change);

// Whether some good chunk of the project has this fingerprint.
absl::StatusOr<bool> HasFingerprint(const catalog::CatalogReader& reader, uint64_t project_uid,
                                    const Fingerprint& xxh3);

Fingerprint FingerprintOf(const records::ChunkRecord& record);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHUNK_INDEX_H_
