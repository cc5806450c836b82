#ifndef SCONCE_STORAGE_REPOSITORY_ATTRIBUTES_H_
#define SCONCE_STORAGE_REPOSITORY_ATTRIBUTES_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "storage/format/attributes.h"
#include "storage/repository/types.h"

namespace sconce::repository {

// What a checkpoint is indexed by.
struct Attributes {
  std::optional<int64_t> epoch, step;
  Metrics metrics;
};

// What was given together with what the tree says of itself. Pure. ATTRIBUTE_CONFLICT naming both values when they
// differ (two NaN are the same). Metrics of the tree whose names cannot be kept, or beyond the 1000th, are left out.
absl::StatusOr<Attributes> MergeAttributes(const PushOptions& given, const format::TreeAttributes& tree);

// Bitwise equal, but all NaN are the same and -0 is 0.
bool SameMetric(double a, double b);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_ATTRIBUTES_H_
