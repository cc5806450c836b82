#ifndef SCONCE_STORAGE_REPOSITORY_BEST_RULE_H_
#define SCONCE_STORAGE_REPOSITORY_BEST_RULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/lookup.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/types.h"

// What `latest` and `best` mean. Both are looked up in the catalog's order, never stored: they cannot be out of date.
namespace sconce::repository {

// The highest version of the run that is not quarantined; nullopt when there is none. Mostly one look at the number
// that was given last: a seek has to look into each of the catalog's tables.
absl::StatusOr<std::optional<Stored<records::CheckpointRecord>>> FindLatest(const catalog::CatalogReader& reader,
                                                                            const records::RunRecord& run);
// Its number, or 0.
absl::StatusOr<int64_t> LatestVersion(const catalog::CatalogReader& reader, const records::RunRecord& run);

// The version with the best value of the rule's metric, the newest of those that tie; 0 when no version has a value.
// NaN and quarantined versions are not in the index.
absl::StatusOr<int64_t> BestVersion(const catalog::CatalogReader& reader, uint64_t run_uid, const BestRule& rule);

// What BestVersion will give once `change` is applied: with the metric entries that it puts and without those it
// deletes.
absl::StatusOr<int64_t> BestVersionAfter(const catalog::CatalogReader& reader, uint64_t run_uid, const BestRule& rule,
                                         const catalog::ChangeSet& change);

// Adds the log entry that `best` moved, when it does by this batch (which is otherwise complete): from what `before`
// means now to what the rule of `run` means afterwards; version 0 when no version has the metric any more. The batch
// must have the condition that the run is unchanged and rewrite it, as everything does that touches the metric index;
// else two batches that do not see each other might both be logged as the last.
absl::Status LogBestMove(const catalog::CatalogReader& reader, const BestRule& before, const records::RunRecord& run,
                         int64_t now_ns, catalog::ChangeSet& change);

// Names of the metrics that versions of the run have, sorted; at most `limit`.
absl::StatusOr<std::vector<std::string>> MetricNames(const catalog::CatalogReader& reader, uint64_t run_uid,
                                                     size_t limit);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BEST_RULE_H_
