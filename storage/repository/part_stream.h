#ifndef SCONCE_STORAGE_REPOSITORY_PART_STREAM_H_
#define SCONCE_STORAGE_REPOSITORY_PART_STREAM_H_

#include <memory>

#include "storage/repository/ingest_pool.h"
#include "storage/repository/part_session.h"
#include "storage/repository/store.h"
#include "storage/repository/upload.h"

namespace sconce::repository {

// A stream of the part; `pool` outlives it. `slot` is its place among the pushes in progress.
std::unique_ptr<PartStream> MakePartStream(std::shared_ptr<Store> store, IngestPool& pool,
                                           std::unique_ptr<IngestPool::Slot> slot, std::shared_ptr<PartSession> session,
                                           DurableCallback durable);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_PART_STREAM_H_
