#ifndef SCONCE_STORAGE_CATALOG_VERSION_INDEX_H_
#define SCONCE_STORAGE_CATALOG_VERSION_INDEX_H_

#include <cstdint>
#include <string>
#include <vector>

#include "storage/catalog/catalog.h"
#include "storage/catalog/records.pb.h"

// The index entries of a version, which follow from its record alone. Whoever writes or deletes a version's record
// changes them in the same batch, with these.
namespace sconce::catalog {

// True when damage is known: it is not served, and its metrics stand where they cannot win.
bool IsQuarantined(const storage::v1::CheckpointRecord& record);

// The keys of its metrics, numbers and labels, sorted, each once; the values are empty.
std::vector<std::string> IndexKeys(uint64_t run_uid, const storage::v1::CheckpointRecord& record);

// Adds to the batch what makes the entries of `before` those of `after`; null is no version.
void Reindex(uint64_t run_uid, const storage::v1::CheckpointRecord* before, const storage::v1::CheckpointRecord* after,
             ChangeSet& change);

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_VERSION_INDEX_H_
