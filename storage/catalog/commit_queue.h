#ifndef SCONCE_STORAGE_CATALOG_COMMIT_QUEUE_H_
#define SCONCE_STORAGE_CATALOG_COMMIT_QUEUE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "storage/catalog/catalog.h"

namespace sconce::catalog {

// A change and, once the committer has been over it, its outcome.
struct PendingChange {
  const ChangeSet* change = nullptr;
  std::optional<absl::StatusOr<int64_t>> result;
};

// Group commit: callers queue changes and sleep; one thread takes all that are waiting (bounded) and commits them
// together. Thread-safe. The destructor commits what is queued.
class CommitQueue {
 public:
  // `commit` gets a group in the order of arrival and sets every result; it runs on the queue's own thread.
  using Commit = absl::AnyInvocable<void(std::vector<PendingChange>& group)>;

  explicit CommitQueue(Commit commit);
  ~CommitQueue();
  CommitQueue(const CommitQueue&) = delete;
  CommitQueue& operator=(const CommitQueue&) = delete;

  // Returns when the change is committed or refused.
  absl::StatusOr<int64_t> Submit(const ChangeSet& change);

 private:
  void Work();

  Mutex mu_;
  CondVar queued_;
  CondVar finished_;
  std::deque<PendingChange*> queue_ ABSL_GUARDED_BY(mu_);  // each on the stack of its caller
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  Commit commit_;  // used by thread_ alone
  std::thread thread_;
};

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_COMMIT_QUEUE_H_
