#ifndef SCONCE_STORAGE_REPOSITORY_INTEGRITY_H_
#define SCONCE_STORAGE_REPOSITORY_INTEGRITY_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/types.h"

namespace sconce::repository {

// What is known of damage, for health and metrics. Thread-safe.
class IntegrityMonitor {
 public:
  // `listener` is called with the state now, and then whenever it changes, under a lock: it must be quick and call
  // nothing of the repository. Set once.
  void SetListener(std::function<void(const Integrity&)> listener);
  Integrity state() const;

  // A piece of data (a chunk, a manifest, a footer, a record) was found damaged.
  void CountFailure();
  // Counts the quarantined versions and modules anew: after every change that may have made or ended one.
  void Refresh(const catalog::CatalogReader& reader);
  // Looks whether the catalog's answer says that it is damaged itself.
  void NoteCatalog(const absl::Status& status);
  // A blob whose chunks are good but not its footer. Known from a check until the next one, or the next start.
  void SetDamagedFooters(int64_t count);
  // One of them was written anew, or went.
  void NoteDamagedFooterGone();
  void NoteRound(absl::Time ended);

 private:
  template <typename Change>
  void Update(Change change) ABSL_LOCKS_EXCLUDED(mu_);

  mutable Mutex mu_;
  Integrity state_ ABSL_GUARDED_BY(mu_);
  std::function<void(const Integrity&)> listener_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_INTEGRITY_H_
