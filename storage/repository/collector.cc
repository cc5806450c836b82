// A pass is a row of stages, in the order in which each leaves work for the next; every stage is a class in a file of
// its own, which says what it promises:
//
//   0. DeletionRecorder: what was deleted is recorded in deletions.log; again after stage 1.
//   1. RunBurial: a deleted run's versions and modules become tombstones.
//   2. ReferenceDropper: from each tombstone the references are dropped, and the chunks nobody else refers to.
//   3. BlobSweeper: blobs nobody needs any more are forgotten, then unlinked.
//   4. DeletionTrimmer: deletions.log is shortened now and then.
//   5. RequestSweeper: request ids older than their lifetime go.
//
// A crash between two batches loses nothing, since every batch leaves the catalog consistent and every stage finds its
// work in the catalog.
#include "storage/repository/collector.h"

#include <pthread.h>

#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace sconce::repository {

Collector::Collector(Store& store)
    : store_(store),
      deletion_recorder_(store),
      run_burial_(store),
      reference_dropper_(store),
      blob_sweeper_(store),
      deletion_trimmer_(store),
      request_sweeper_(store) {}

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
    if (const auto report = Collect(); !report.ok()) {
      Log(Severity::kError, "collect_failed", {{"reason", report.status().ToString()}});
    }
  }
}

absl::StatusOr<CollectReport> Collector::Collect() {
  MutexLock pass(&pass_mu_);
  CollectReport report;
  SCONCE_RETURN_IF_ERROR(deletion_recorder_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(run_burial_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(deletion_recorder_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(reference_dropper_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(blob_sweeper_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(deletion_trimmer_.Run(stop_, report));
  SCONCE_RETURN_IF_ERROR(request_sweeper_.Run(stop_, report));
  if (report.versions + report.removed_blobs > 0) {
    Log(Severity::kInfo, "collected",
        {{"versions", report.versions}, {"chunks", report.removed_chunks}, {"blobs", report.removed_blobs}});
  }
  return report;
}

}  // namespace sconce::repository
