#ifndef SCONCE_CLIENT_CLI_PLAN_OPTIONS_H_
#define SCONCE_CLIENT_CLI_PLAN_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/args.h"
#include "sconce/v1/manifest.pb.h"

// Options of the commands that load weights into a module: what into, and how keys are changed on the way.
namespace sconce::cli {

// --strip-prefix, --add-prefix, --rename, --min-match.
std::vector<Option> KeyRuleOptions();
// --module and --into beside those.
std::vector<Option> LoadPlanOptions();

// ARGUMENT_INVALID for a --rename that is not of the form shown in the help.
absl::StatusOr<v1::KeyRules> KeyRulesFrom(const Args& args);
// ARGUMENT_INVALID for what is no number.
absl::StatusOr<double> MinMatchFrom(const Args& args);
// The same, and ARGUMENT_INVALID for both --module and --into; the errors of reading an --into's file, and
// STATE_DICT_INVALID when what is there is no state_dict.
absl::StatusOr<v1::LoadPlan> LoadPlanFrom(const Args& args);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_PLAN_OPTIONS_H_
