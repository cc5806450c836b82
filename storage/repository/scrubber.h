#ifndef SCONCE_STORAGE_REPOSITORY_SCRUBBER_H_
#define SCONCE_STORAGE_REPOSITORY_SCRUBBER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/byte_rate.h"
#include "base/mutex.h"
#include "storage/repository/blob_check.h"
#include "storage/repository/store.h"
#include "storage/repository/store_walk.h"

namespace sconce::repository {

// Looks for damage that nobody has met yet: round after round over every blob, then every version and module, then the
// catalog's own files, at a limited rate and past the page cache. How far it has come is in the catalog, so a restart
// goes on there. A round begins a day after the one before began, or at once when that took longer. Thread-safe.
class Scrubber {
 public:
  static constexpr absl::Duration kRoundInterval = absl::Hours(24);

  // At most `bytes_per_second`; 0: Start does nothing. `store` (with its clock) outlives this.
  Scrubber(Store& store, int64_t bytes_per_second);
  ~Scrubber();

  // Starts the thread. Its errors are logged, and it tries again a minute later.
  void Start();

  // One step, and how long to wait before the next. The thread calls this; so do tests, which do not start it.
  absl::StatusOr<absl::Duration> Step();

 private:
  void Work();
  bool WaitFor(absl::Duration time);  // false: stopping

  absl::Status Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mu_);
  absl::Status Save() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mu_);
  absl::StatusOr<absl::Duration> StepBlobs() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mu_);
  absl::StatusOr<absl::Duration> StepObjects() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mu_);
  absl::Status EndRound() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mu_);
  void BeginWalk() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mu_);

  Store& store_;
  const int64_t bytes_per_second_;

  Mutex step_mu_;  // held for a step
  ByteRate rate_ ABSL_GUARDED_BY(step_mu_);
  bool loaded_ ABSL_GUARDED_BY(step_mu_) = false;
  records::ScrubRecord position_ ABSL_GUARDED_BY(step_mu_);
  absl::Time saved_ ABSL_GUARDED_BY(step_mu_) = absl::InfinitePast();
  std::unique_ptr<blob::AlignedBuffer> buffer_ ABSL_GUARDED_BY(step_mu_);  // while blobs are read
  std::optional<KeyWalk> blobs_ ABSL_GUARDED_BY(step_mu_);
  std::optional<OwnerWalk> owners_ ABSL_GUARDED_BY(step_mu_);
  std::optional<BlobCheck> blob_ ABSL_GUARDED_BY(step_mu_);
  std::string blob_key_ ABSL_GUARDED_BY(step_mu_);
  BlobFindings findings_ ABSL_GUARDED_BY(step_mu_);

  Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_SCRUBBER_H_
