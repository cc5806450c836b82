#ifndef SCONCE_CLIENT_CLI_RETENTION_OPTIONS_H_
#define SCONCE_CLIENT_CLI_RETENTION_OPTIONS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/args.h"
#include "sconce/v1/checkpoint.pb.h"

namespace sconce::cli {

// --keep-last N, --keep-best N, --keep-every-steps K, --keep-younger-than TIME.
std::vector<Option> RetentionOptions();
// One of them was given.
bool HasRetention(const Args& args);
// The policy they make; those not given are no rule. ARGUMENT_INVALID naming the option.
absl::StatusOr<v1::RetentionPolicy> ChosenRetention(const Args& args);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_RETENTION_OPTIONS_H_
