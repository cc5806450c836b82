#ifndef SCONCE_STORAGE_REPOSITORY_TOMBSTONES_H_
#define SCONCE_STORAGE_REPOSITORY_TOMBSTONES_H_

#include <cstdint>

#include "storage/catalog/catalog.h"
#include "storage/repository/record_codec.h"

// How an object leaves: the batch that deletes it removes what names it and leaves a tombstone, from which the
// collector drops its references and its blob later. One place, so that no kind of deletion forgets a key.
namespace sconce::repository {

// Removes the version's record and metric entries. The caller adds conditions, the run's record and the log entry.
void BuryCheckpoint(uint64_t project_uid, uint64_t run_uid, const records::CheckpointRecord& record,
                    catalog::ChangeSet& change);
void BuryModule(uint64_t project_uid, uint64_t run_uid, const records::ModuleRecord& record,
                catalog::ChangeSet& change);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_TOMBSTONES_H_
