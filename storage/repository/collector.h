#ifndef SCONCE_STORAGE_REPOSITORY_COLLECTOR_H_
#define SCONCE_STORAGE_REPOSITORY_COLLECTOR_H_

#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "storage/repository/blob_sorter.h"
#include "storage/repository/blob_sweeper.h"
#include "storage/repository/catalog_snapshots.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/compactor.h"
#include "storage/repository/deletion_recorder.h"
#include "storage/repository/deletion_trimmer.h"
#include "storage/repository/log_trimmer.h"
#include "storage/repository/reference_dropper.h"
#include "storage/repository/request_sweeper.h"
#include "storage/repository/retention_pass.h"
#include "storage/repository/run_burial.h"
#include "storage/repository/store.h"
#include "storage/repository/upload_reaper.h"

namespace sconce::repository {

// Gives the space of deleted objects back, in small steps that can stop and start again anywhere. Its own thread runs a
// pass when woken, and every hour. Thread-safe.
class Collector {
 public:
  explicit Collector(Store& store);  // `store` outlives this
  ~Collector();

  // Starts the thread, with a pass for what an earlier process left.
  void Start();
  // Something was deleted, or a push ended.
  void Wake();
  // Runs a pass now (after one in progress), in the caller's thread and without any limit of rate.
  absl::StatusOr<CollectReport> Collect();

 private:
  void Work();
  absl::StatusOr<CollectReport> Pass(const Pace& pace);
  // How a pass of the collector's own thread gives way.
  void WaitUnlessUrgent(absl::Duration timeout);
  bool HasOtherWork();

  Store& store_;
  StopSignal stop_{&store_.removals};
  Mutex pass_mu_;  // held for a pass: there is one at a time
  DeletionRecorder deletion_recorder_ ABSL_GUARDED_BY(pass_mu_);
  RetentionPass retention_pass_ ABSL_GUARDED_BY(pass_mu_);
  RunBurial run_burial_ ABSL_GUARDED_BY(pass_mu_);
  ReferenceDropper reference_dropper_ ABSL_GUARDED_BY(pass_mu_);
  UploadReaper upload_reaper_ ABSL_GUARDED_BY(pass_mu_);
  BlobSweeper blob_sweeper_ ABSL_GUARDED_BY(pass_mu_);
  SnapshotTaker snapshot_taker_ ABSL_GUARDED_BY(pass_mu_);
  RequestSweeper request_sweeper_ ABSL_GUARDED_BY(pass_mu_);
  LogTrimmer log_trimmer_ ABSL_GUARDED_BY(pass_mu_);
  BlobSorter blob_sorter_ ABSL_GUARDED_BY(pass_mu_);
  DeletionTrimmer deletion_trimmer_ ABSL_GUARDED_BY(pass_mu_);
  Compactor compactor_ ABSL_GUARDED_BY(pass_mu_);

  Mutex mu_;
  CondVar wake_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  int urgent_ ABSL_GUARDED_BY(mu_) = 0;  // calls of Collect under way
  std::thread thread_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_COLLECTOR_H_
