#ifndef SCONCE_STORAGE_REPOSITORY_RETIREMENT_H_
#define SCONCE_STORAGE_REPOSITORY_RETIREMENT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/retention.h"
#include "storage/repository/store.h"

// Carries out what retention.h decides. A run is looked at in the batch of each commit to it, and by the collector at
// the moments that RetentionKeys in the catalog name. Whatever may make a version superfluous without a commit (an
// alias that moves, an unpinning, another policy) leaves such a key, so it takes effect at the next commit or the
// collector's next pass, whichever is first, and not in the call itself.
namespace sconce::repository {

// What a look at a run found.
struct RetentionSurvey {
  RetentionContext context;
  std::vector<VersionFacts> versions;  // ascending
  std::vector<RetentionVerdict> verdicts;
};

// `rule` instead of the run's own when given; `committed`: a version that the reader does not show yet. Holds some 100
// bytes a version of the run.
absl::StatusOr<RetentionSurvey> SurveyRun(const Store& store, const catalog::CatalogReader& reader,
                                          const records::RunRecord& run, const std::optional<RetentionRule>& rule,
                                          const records::CheckpointRecord* committed);

// Adds to the batch that commits `committed` into `run` (its record as that batch stores it: call this before) what
// retention deletes on that occasion: at most some hundred versions, and none in a run so large that the look would
// hold the commit up. The rest is left to the collector, which is woken by the end of every push.
absl::Status RetireInCommit(Store& store, const records::CheckpointRecord& committed, records::RunRecord& run,
                            catalog::ChangeSet& change);

// Adds the key that makes the collector look at the run (from `due_ns` on).
void LookAtRun(const records::RunRecord& run, int64_t due_ns, catalog::ChangeSet& change);
// At once, when there is something that retention could delete; for batches that take a protection away.
void LookAtRunNow(const Store& store, const records::RunRecord& run, catalog::ChangeSet& change);

// Deletes what retention deletes of the run now, in bounded batches, and leaves the key of the next look. Returns how
// many versions went.
absl::StatusOr<int64_t> RetireRun(Store& store, uint64_t run_uid, const StopSignal& stop);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_RETIREMENT_H_
