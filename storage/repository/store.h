#ifndef SCONCE_STORAGE_REPOSITORY_STORE_H_
#define SCONCE_STORAGE_REPOSITORY_STORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/error.h"
#include "storage/blob/blob_store.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/change_notifier.h"
#include "storage/repository/contents_cache.h"
#include "storage/repository/data_dir.h"
#include "storage/repository/deletion_log.h"
#include "storage/repository/integrity.h"
#include "storage/repository/pin_table.h"
#include "storage/repository/removal_gate.h"
#include "storage/repository/repository.h"
#include "storage/repository/store_counters.h"
#include "storage/repository/store_totals.h"

namespace sconce::repository {

// What the parts of a repository share. Held by the repository and by every object that is open for reading: shared
// because a reader may outlive the repository; its members are thread-safe or constant after Open.
struct Store {
  RepositoryOptions options;  // the clock is set
  std::optional<DataDir> data_dir;
  // Before the catalog, which tells them of its errors and changes.
  IntegrityMonitor integrity;
  StoreCounters counters;
  std::unique_ptr<catalog::Catalog> catalog;
  std::unique_ptr<blob::BlobStore> blobs;
  std::unique_ptr<DeletionLog> deletions;
  // Changes are noted by the catalog, of which it may hold a state: so it goes before that.
  StoreTotals totals;
  // Of the uploads there were when the store was opened: their manifests, and blobs of their parts. Set before the
  // collector starts, and then its own (BlobSorter).
  absl::flat_hash_set<blob::BlobId> upload_blobs_at_start;
  PinTable pins;
  RemovalGate removals;
  ChangeNotifier changes;
  ContentsCache contents;
  std::function<bool(const RunName&, int64_t version)> protect;  // set before use
  std::atomic<bool> retention_started{false};                    // orders what `protect` needs before it is asked

  int64_t NowNanos() const { return absl::ToUnixNanos(options.clock->Now()); }
};

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// Runs `attempt` (read, decide, Apply) until its result is not that a condition did not hold: somebody else changed the
// record in between, so somebody made progress.
template <typename Attempt>
auto RetryOnConflict(Attempt attempt) -> decltype(attempt()) {
  constexpr int kMaxAttempts = 1000;
  for (int i = 0; i < kMaxAttempts; ++i) {
    auto result = attempt();
    if (!catalog::FailedConditionKey(StatusOf(result))) return result;
  }
  return MakeError(Reason::SERVER_OVERLOADED, "too many changes of the same run at once; try again");
}

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_STORE_H_
