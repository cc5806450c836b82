// A pass is a row of stages, in the order in which each leaves work for the next; every stage is a class in a file of
// its own, which says what it promises:
//
//   0. RetentionPass: versions that expired or that no rule of their run keeps become tombstones.
//   1. DeletionRecorder: what was deleted is recorded in deletions.log; again after stage 2.
//   2. RunBurial: a deleted run's versions and modules become tombstones.
//   3. ReferenceDropper: from each tombstone the references are dropped, and the chunks nobody else refers to.
//   4. UploadReaper: uploads that expired are aborted; of those that ended everything goes.
//   5. BlobSweeper: blobs nobody needs any more are forgotten, then unlinked; what others waste is noted.
//   6. SnapshotTaker: once an hour the catalog is copied.
//   7. RequestSweeper: request ids older than their lifetime go.
//   8. LogTrimmer: the oldest entries of the change log go.
//   9. BlobSorter: after a start, blobs that the catalog does not know go to orphans/, the others are counted. With
//   very
//      many it takes minutes: it gives way to a new pass between two steps, and 10 and 11 wait for its end.
//  10. DeletionTrimmer: deletions.log is shortened now and then. Not before 9 has ended: a blob that came back after a
//      power loss still needs its record there.
//  11. Compactor: what is needed of wasteful blobs is copied, slowly, and the blobs are unlinked. It judges by what all
//      blobs take, which is known after 9. Last, since it may take hours: it gives way to a new pass between two blobs.
//
// Only these stages remove blobs that a push before the start made, so 9 sees no blob go while it looks.
//
// A crash between two batches loses nothing, since every batch leaves the catalog consistent and every stage finds its
// work in the catalog.
#include "storage/repository/collector.h"

#include <pthread.h>

#include "absl/cleanup/cleanup.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace sconce::repository {

Collector::Collector(Store& store)
    : store_(store),
      deletion_recorder_(store),
      retention_pass_(store),
      run_burial_(store),
      reference_dropper_(store),
      upload_reaper_(store, reference_dropper_),
      blob_sweeper_(store),
      snapshot_taker_(store),
      request_sweeper_(store),
      log_trimmer_(store),
      blob_sorter_(store),
      deletion_trimmer_(store),
      compactor_(store) {}

Collector::~Collector() {
  stop_.Request();
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Collector::Start() {
  Wake();
  thread_ = std::thread([this] { Work(); });
}

void Collector::Wake() {
  MutexLock lock(&mu_);
  woken_ = true;
  wake_.Signal();
}

void Collector::Work() {
  ::pthread_setname_np(::pthread_self(), "collector");
  while (true) {
    {
      MutexLock lock(&mu_);
      bool idle = false;
      while (!stopping_ && !woken_ && !idle) idle = wake_.WaitWithTimeout(&mu_, absl::Hours(1));
      if (stopping_) return;
      if (idle) store_.contents.Clear();
      woken_ = false;
    }
    const Pace pace{[this](absl::Duration timeout) { WaitUnlessUrgent(timeout); }, [this] { return HasOtherWork(); }};
    if (const auto report = Pass(pace); !report.ok()) {
      Log(Severity::kError, "collect_failed", {{"reason", report.status().ToString()}});
    }
  }
}

void Collector::WaitUnlessUrgent(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(&mu_);
  while (!stopping_ && urgent_ == 0 && !store_.removals.Wanted()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return;
    wake_.WaitWithTimeout(&mu_, left);
  }
}

bool Collector::HasOtherWork() {
  MutexLock lock(&mu_);
  return stopping_ || woken_ || urgent_ > 0 || store_.removals.Wanted();
}

absl::StatusOr<CollectReport> Collector::Collect() {
  {
    MutexLock lock(&mu_);
    ++urgent_;
    wake_.SignalAll();
  }
  absl::StatusOr<CollectReport> report = Pass({});
  MutexLock lock(&mu_);
  --urgent_;
  return report;
}

absl::StatusOr<CollectReport> Collector::Pass(const Pace& pace) {
  MutexLock pass(&pass_mu_);
  CollectReport report;
  if (!store_.removals.Enter()) return report;  // a backup is taken: nothing may go; its end wakes the collector
  const absl::Cleanup leave = [this] { store_.removals.Leave(); };
  SCONCE_RETURN_IF_ERROR(retention_pass_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(deletion_recorder_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(run_burial_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(deletion_recorder_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(reference_dropper_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(upload_reaper_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(blob_sweeper_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(snapshot_taker_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(request_sweeper_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(log_trimmer_.Run(stop_, report));
  store_.integrity.Refresh(*store_.catalog);
  // Counts what nobody may have asked for yet: until then the catalog cannot forget its state of the start. Why it
  // could not be counted hears who asks.
  store_.totals.Get().IgnoreError();
  if (blob_sweeper_.TakeChanged()) compactor_.SetChanged();
  SCONCE_RETURN_IF_ERROR(blob_sorter_.Run(stop_, pace));
  if (blob_sorter_.ended()) {
    SCONCE_RETURN_IF_ERROR(deletion_trimmer_.Run(stop_, report));
    SCONCE_RETURN_IF_ERROR(compactor_.Run(stop_, pace, report));
  }
  store_.counters.collected_bytes += report.freed_bytes;
  if (report.versions + report.removed_blobs + report.compacted_blobs > 0) {
    Log(Severity::kInfo, "collected",
        {{"versions", report.versions},
         {"chunks", report.removed_chunks},
         {"blobs", report.removed_blobs},
         {"compacted", report.compacted_blobs},
         {"freed_bytes", report.freed_bytes}});
  }
  return report;
}

}  // namespace sconce::repository
