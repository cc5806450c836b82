#ifndef SCONCE_CLIENT_CLI_EXPIRY_H_
#define SCONCE_CLIENT_CLI_EXPIRY_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/args.h"
#include "google/protobuf/timestamp.pb.h"

namespace sconce::cli {

// "36h", "90m", "14d": above zero, and below a hundred years; nullopt for anything else.
std::optional<absl::Duration> ParseAge(const std::string& text);

// When a version goes by itself, as --expire says it.
struct Expiry {
  std::optional<absl::Time> time;  // none: never
  bool from_now = false;           // said as a duration
};
// A time of RFC 3339, "never", or a duration from `now`. A duration is rounded up to its unit ("14d" ends at midnight
// UTC, "36h" at a full hour), so that the same command given again soon means the same. ARGUMENT_INVALID, also for a
// time that is past.
absl::StatusOr<Expiry> ParseExpiry(const std::string& text, absl::Time now);

google::protobuf::Timestamp ToTimestamp(absl::Time time);
// "2027-01-31T12:00:00Z"
std::string FormatUtc(const google::protobuf::Timestamp& time);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_EXPIRY_H_
