#ifndef SCONCE_SERVER_CONFIG_VALUES_H_
#define SCONCE_SERVER_CONFIG_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// The values of settings as people write them. Each fails with CONFIG_INVALID and a sentence that tells what would be
// right, without saying which setting it is: the caller knows.
namespace sconce {

// "512", "256MiB", "10 GiB"; K, M, G and T alone are powers of 1024 too.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);
// "500ms", "5s", "1m30s"; not negative.
absl::StatusOr<absl::Duration> ParsePositiveDuration(absl::string_view text);
absl::StatusOr<int> ParseCount(absl::string_view text, int minimum, int maximum);
// OK for "HOST:PORT" (port 0: any free one), "[IPV6]:PORT" and "unix:PATH".
absl::Status CheckAddress(absl::string_view address);
// The most similar of `names`, or "" when none is close: for hints about misspelt ones.
std::string ClosestName(absl::string_view name, const std::vector<std::string>& names);

}  // namespace sconce

#endif  // SCONCE_SERVER_CONFIG_VALUES_H_
