#ifndef SCONCE_STORAGE_REPOSITORY_CHECKPOINT_LIST_H_
#define SCONCE_STORAGE_REPOSITORY_CHECKPOINT_LIST_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/checkpoint_filter.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/types.h"

namespace sconce::repository {

// A page of a run's versions (Repository::ListCheckpoints), of a bounded number of reads, however many versions the run
// has: with a filter it may be short, even empty, and have a `next`. `reader` is a snapshot, `limit` more than 0.
//
// A call asks the filter about at most kMaxLooks versions (or `limit`, where that is more), taken from the plan's
// stream in the order of the list. Where the plan has sets (list_plan.h), it first looks whether one of them is small:
// then it takes that, sorted, instead.
inline constexpr size_t kMaxLooks = 1000;
inline constexpr size_t kMaxSetKeys = 4096;  // "small", when sorting needs no records

absl::StatusOr<Page<Checkpoint>> ListByQuery(const catalog::CatalogReader& reader, const records::RunRecord& run,
                                             const CheckpointQuery& query, const std::string& start, int64_t limit);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHECKPOINT_LIST_H_
