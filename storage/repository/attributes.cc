#include "storage/repository/attributes.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/repository/names.h"

namespace sconce::repository {
namespace {

constexpr size_t kMaxMetrics = 1000;

absl::Status Conflict(absl::string_view what, absl::string_view given, absl::string_view in_tree) {
  return MakeError(Reason::ATTRIBUTE_CONFLICT,
                   absl::StrCat(what, " was given as ", given, ", but the checkpoint itself says ", in_tree,
                                "; leave it out, or give the same value"),
                   {{"attribute", std::string(what)}, {"given", std::string(given)}, {"found", std::string(in_tree)}});
}

absl::StatusOr<std::optional<int64_t>> Merge(absl::string_view what, std::optional<int64_t> given,
                                             std::optional<int64_t> in_tree) {
  if (given && in_tree && *given != *in_tree) return Conflict(what, absl::StrCat(*given), absl::StrCat(*in_tree));
  return given ? given : in_tree;
}

}  // namespace

bool SameMetric(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

absl::StatusOr<Attributes> MergeAttributes(const PushOptions& given, const format::TreeAttributes& tree) {
  Attributes merged;
  SCONCE_ASSIGN_OR_RETURN(merged.epoch, Merge("epoch", given.epoch, tree.epoch));
  SCONCE_ASSIGN_OR_RETURN(merged.step, Merge("step", given.step, tree.step));
  merged.metrics = given.metrics;
  for (const auto& [name, value] : tree.metrics) {
    if (const auto it = given.metrics.find(name); it != given.metrics.end()) {
      if (!SameMetric(it->second, value)) {
        return Conflict(absl::StrCat("metric ", Quoted(name)), absl::StrCat(it->second), absl::StrCat(value));
      }
    } else if (IsMetricName(name) && merged.metrics.size() < kMaxMetrics) {
      merged.metrics[name] = value;
    }
  }
  return merged;
}

}  // namespace sconce::repository
