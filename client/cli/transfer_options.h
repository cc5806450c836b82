#ifndef SCONCE_CLIENT_CLI_TRANSFER_OPTIONS_H_
#define SCONCE_CLIENT_CLI_TRANSFER_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/args.h"
#include "sconce/v1/manifest.pb.h"
#include "sconce/v1/transfer_service.pb.h"

// Options that several commands share: which part of a checkpoint, on which device, as which dtype, and what a push
// says about it.
namespace sconce::cli {

std::vector<Option> SelectionOptions();
v1::Selection SelectionFrom(const Args& args);

std::vector<Option> DeviceOptions();
// ARGUMENT_INVALID for a --map-location or --device-rule that is not of the form shown in the help.
absl::StatusOr<v1::DeviceMapping> DeviceMappingFrom(const Args& args);

std::vector<Option> CastOptions();
// ARGUMENT_INVALID for a --dtype that is not of the form shown in the help; what the dtypes are is for the server.
absl::StatusOr<v1::DtypeCast> CastFrom(const Args& args);

std::vector<Option> PushOptions();
// `now`: what --expire counts a duration from.
absl::StatusOr<v1::PushHeader> PushHeaderFrom(const Args& args, const std::string& run_name,
                                              absl::Time now = absl::Now());

// One line for each row: "cuda:0 -> cpu: 12 storages, 48.0 MiB (first: /model/fc.weight)".
std::vector<std::string> MappedDeviceLines(const google::protobuf::RepeatedPtrField<v1::MappedDevice>& mapped);
// Likewise: "float32 -> float16: 12 storages, 48.0 MiB -> 24.0 MiB (first: /model/fc.weight)".
std::vector<std::string> CastDtypeLines(const google::protobuf::RepeatedPtrField<v1::CastDtype>& changes);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_TRANSFER_OPTIONS_H_
