#ifndef SCONCE_CLIENT_CLI_SERVING_OPTIONS_H_
#define SCONCE_CLIENT_CLI_SERVING_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/args.h"
#include "sconce/v1/model_service.pb.h"

namespace sconce::cli {

// What a deployment serves and how: --weights and how they are loaded, --device, --dtype, --instances, batching,
// warm-up, how versions take over, --canary, --shadow, --pin. The same for a new deployment and for a change of one.
std::vector<Option> ServingOptions();

// Sets in `model`, which is new or as it is now, what was given, and names the fields of it that were set: those of an
// update mask. ARGUMENT_INVALID naming the option.
absl::StatusOr<std::vector<std::string>> SetServing(const Args& args, v1::Model& model);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_SERVING_OPTIONS_H_
