#ifndef SCONCE_CLIENT_CLI_OUTPUT_H_
#define SCONCE_CLIENT_CLI_OUTPUT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/cli/args.h"
#include "google/protobuf/map.h"
#include "google/protobuf/message.h"
#include "google/protobuf/timestamp.pb.h"

namespace sconce::cli {

enum class OutputFormat { kTable, kJson, kName };

// `-o table|json|name`, for every command but those where -o names a file.
Option OutputOption();
absl::StatusOr<OutputFormat> ChosenFormat(const Args& args);

void Print(absl::string_view text);  // standard output
void Note(absl::string_view text);   // standard error, with a line end
// Numbers that only this side knows, by their names in JSON.
using ExtraNumbers = std::vector<std::pair<std::string, int64_t>>;
// As protobuf's JSON mapping: camelCase, 64-bit integers as strings; `extra` after the message's own fields.
void PrintJson(const google::protobuf::Message& message, const ExtraNumbers& extra = {});

absl::Time ToTime(const google::protobuf::Timestamp& timestamp);
std::string JoinPairs(const google::protobuf::Map<std::string, std::string>& pairs);  // "a=1, b=2", by key
std::string JoinMetrics(const google::protobuf::Map<std::string, double>& metrics);   // "loss=0.25", by key

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_OUTPUT_H_
