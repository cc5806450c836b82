#ifndef SCONCE_STORAGE_REPOSITORY_BEST_RULE_H_
#define SCONCE_STORAGE_REPOSITORY_BEST_RULE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/types.h"

// What `latest` and `best` mean. Both are looked up in the catalog's order, never stored: they cannot be out of date.
namespace sconce::repository {

// The highest version of the run that is not quarantined; 0 when there is none.
absl::StatusOr<int64_t> LatestVersion(const catalog::CatalogReader& reader, uint64_t run_uid);

// The version with the best value of the rule's metric, the newest of those that tie; 0 when no version has a value.
// NaN and quarantined versions are not in the index.
absl::StatusOr<int64_t> BestVersion(const catalog::CatalogReader& reader, uint64_t run_uid, const BestRule& rule);

// Names of the metrics that versions of the run have, sorted; at most `limit`.
absl::StatusOr<std::vector<std::string>> MetricNames(const catalog::CatalogReader& reader, uint64_t run_uid,
                                                     size_t limit);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BEST_RULE_H_
