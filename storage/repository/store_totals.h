#ifndef SCONCE_STORAGE_REPOSITORY_STORE_TOTALS_H_
#define SCONCE_STORAGE_REPOSITORY_STORE_TOTALS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "storage/catalog/catalog.h"

namespace sconce::repository {

// How many projects, runs and versions there are, without looking at each of them: counted once, in the catalog as it
// was when the store was opened, and since then kept by what every change does to it. Thread-safe.
class StoreTotals {
 public:
  struct Totals {
    int64_t projects = 0, runs = 0, checkpoints = 0;
  };

  // `start`: the catalog before the first change that is noted.
  void Begin(std::unique_ptr<catalog::CatalogReader> start);
  // A change that was applied. A run's record is only ever changed under the condition that it is as it was, so that
  // the change says by itself what it adds.
  void Note(const catalog::ChangeSet& change);
  // The first call (the collector's, if nobody was earlier) reads the record of every run there was at the start, and
  // lets go of that state of the catalog; later ones read nothing. CATALOG_CORRUPT, IO_ERROR: nothing is counted yet,
  // the next call tries again.
  absl::StatusOr<Totals> Get();

 private:
  Mutex count_mu_;  // held over the first count; taken before mu_
  std::unique_ptr<catalog::CatalogReader> start_ ABSL_GUARDED_BY(count_mu_);  // null once it was counted
  Mutex mu_;
  Totals totals_ ABSL_GUARDED_BY(mu_);  // until the first count, only what was added since the start
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_STORE_TOTALS_H_
