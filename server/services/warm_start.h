#ifndef SCONCE_SERVER_SERVICES_WARM_START_H_
#define SCONCE_SERVER_SERVICES_WARM_START_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sconce/v1/manifest.pb.h"
#include "storage/format/load_plan.h"
#include "storage/format/selection.h"
#include "storage/repository/repository.h"

// LoadPlan messages: what PlanLoad answers about, and fetch and export apply.
namespace sconce::services {

// A LoadPlan as asked, checked as far as it can be without a checkpoint.
struct WarmStart {
  std::optional<format::LoadTarget> target;  // absent: every key is taken
  format::KeyRules rules;
  double min_match = 0;
  bool strict = false;
};

// True for a LoadPlan that changes nothing.
bool IsEmpty(const v1::LoadPlan& plan);

// Reads the plan, and the module when it names one. ARGUMENT_INVALID for a module and keys at once, for a min_match
// that is no share and for min_match or strict without a target; NAME_INVALID, MODULE_NOT_FOUND, MODULE_INVALID; the
// errors of format::CheckKeyRules.
absl::StatusOr<WarmStart> ReadLoadPlan(repository::Repository& repository, const v1::LoadPlan& plan);

// OK when `plan` is what was asked for: MODEL_WEIGHTS_MISMATCH with torch's sentences when it was to be strict,
// MATCH_RATE_TOO_LOW below min_match. `plan` was made for `target`.
absl::Status CheckAgainst(const WarmStart& wanted, const format::LoadTarget& target, const format::LoadPlan& plan,
                          absl::string_view class_name);

// How the target is called in sentences when nobody says.
absl::string_view DefaultClassName(const format::LoadTarget& target);

// The state_dict at the root of `manifest`, with what matches the target only and under the target's names; without a
// target with all keys, renamed. `where` names it in errors. The errors of ReadStateDict, PlanLoad and CheckAgainst.
absl::StatusOr<format::Selected> ApplyWarmStart(const WarmStart& wanted, const format::Manifest& manifest,
                                                absl::string_view where);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_WARM_START_H_
