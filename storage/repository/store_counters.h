#ifndef SCONCE_STORAGE_REPOSITORY_STORE_COUNTERS_H_
#define SCONCE_STORAGE_REPOSITORY_STORE_COUNTERS_H_

#include <atomic>
#include <cstdint>

#include "storage/catalog/catalog.h"

namespace sconce::repository {

// What happened since the start, for metrics. Thread-safe.
struct StoreCounters {
  std::atomic<int64_t> commits{0};              // versions
  std::atomic<int64_t> stored_bytes{0};         // that these commits added to the disk
  std::atomic<int64_t> deduplicated_bytes{0};   // that they found stored already
  std::atomic<int64_t> last_commit_time_ns{0};  // 0: none since the start
  std::atomic<int64_t> collected_bytes{0};      // of blobs that the collector removed

  // A change that was applied: counts the versions it commits.
  void Note(const catalog::ChangeSet& change);
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_STORE_COUNTERS_H_
