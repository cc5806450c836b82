#ifndef SCONCE_STORAGE_REPOSITORY_NAMES_H_
#define SCONCE_STORAGE_REPOSITORY_NAMES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/repository/types.h"

// What a name may look like. Pure.
namespace sconce::repository {

// 1 to 128 of A-Z a-z 0-9 . _ -, the first a letter or digit. NAME_INVALID says which `field` ("run") breaks which
// rule.
absl::Status ValidateId(absl::string_view field, absl::string_view id);
absl::Status ValidateRunName(const RunName& name);

// [a-z][a-z0-9_-]{0,62}; not a reserved selector, nor one that reads as a version number (v12). NAME_INVALID.
absl::Status ValidateAlias(absl::string_view alias);

// At most 64 labels; keys of 1 to 128 bytes, values of up to 1024, UTF-8 without control characters. ARGUMENT_INVALID.
absl::Status ValidateLabels(const Labels& labels);
// At most 1000 metrics; names as label keys. ARGUMENT_INVALID.
absl::Status ValidateMetrics(const Metrics& metrics);
bool IsMetricName(absl::string_view name);

struct Selector {
  enum class Kind { kVersion, kLatest, kBest, kAlias };
  Kind kind = Kind::kLatest;
  int64_t version = 0;
  std::string alias;
};
// SELECTOR_INVALID for what is neither a version number (1, 2, ...), "latest", "best", nor a possible alias.
absl::StatusOr<Selector> ParseSelector(absl::string_view text);

// "project/run", for messages.
std::string Display(const RunName& name);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_NAMES_H_
