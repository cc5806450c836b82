#ifndef SCONCE_STORAGE_REPOSITORY_COLLECTOR_H_
#define SCONCE_STORAGE_REPOSITORY_COLLECTOR_H_

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Gives the space of deleted objects back, in small steps that can stop and start again anywhere. Its own thread runs a
// pass when woken, and every hour. Thread-safe.
class Collector {
 public:
  explicit Collector(Store& store) : store_(store) {}  // `store` outlives this
  ~Collector();

  // Starts the thread, with a pass for what an earlier process left.
  void Start();
  // Something was deleted, or a push ended.
  void Wake();
  // Runs a pass now (after one in progress), in the caller's thread.
  absl::StatusOr<CollectReport> Collect();

 private:
  void Work();
  bool Stopping();

  // The stages of a pass, in this order: each leaves work for the next.
  absl::Status BuryDeletedRuns();
  absl::Status DropReferences(CollectReport& report);
  absl::Status RemoveBlobs(CollectReport& report);
  absl::Status DropOldRequestIds() ABSL_EXCLUSIVE_LOCKS_REQUIRED(pass_mu_);  // at most once an hour

  // True when nothing is left of the run.
  absl::StatusOr<bool> BurySomeOf(uint64_t run_uid, uint64_t project_uid);
  // The chunks a deleted object refers to; by a scan of the project's references when its manifest cannot be read.
  absl::StatusOr<std::vector<Digest>> ChunksOf(const catalog::Owner& owner, const records::TombstoneRecord& tombstone);
  // True when every one was dropped: none had to stay for a push.
  absl::StatusOr<bool> DropReferences(uint64_t project_uid, const catalog::Owner& owner,
                                      absl::Span<const Digest> chunks, CollectReport& report);
  absl::StatusOr<bool> IsGarbage(const blob::BlobId& id, const records::BlobRecord& record);
  absl::StatusOr<bool> HoldsLiveChunk(const blob::BlobId& id, const records::ManifestLocation& manifest);

  Store& store_;
  Mutex pass_mu_;  // held for a pass: there is one at a time
  int64_t next_request_sweep_ns_ ABSL_GUARDED_BY(pass_mu_) = 0;
  Mutex mu_;
  CondVar wake_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_COLLECTOR_H_
