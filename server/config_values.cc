#include "server/config_values.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/strings.h"

namespace sconce {
namespace {

absl::Status Invalid(absl::string_view text, absl::string_view wanted) {
  return MakeError(Reason::CONFIG_INVALID, absl::StrCat(Quoted(text), " is not ", wanted));
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  static constexpr char kWanted[] = "a size; write bytes, or a number with KiB, MiB, GiB or TiB, such as 256MiB";
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  std::string unit = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(digits)));
  int64_t value = 0;
  if (digits == 0 || !absl::SimpleAtoi(text.substr(0, digits), &value)) return Invalid(text, kWanted);
  static constexpr std::pair<absl::string_view, int> kUnits[] = {{"", 0},   {"b", 0},    {"k", 10}, {"kib", 10},
                                                                 {"m", 20}, {"mib", 20}, {"g", 30}, {"gib", 30},
                                                                 {"t", 40}, {"tib", 40}};
  for (const auto& [name, shift] : kUnits) {
    if (unit != name) continue;
    if (value > (std::numeric_limits<int64_t>::max() >> shift)) return Invalid(text, "a size this program can count");
    return value << shift;
  }
  return Invalid(text, kWanted);
}

absl::StatusOr<absl::Duration> ParsePositiveDuration(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < absl::ZeroDuration() || duration > absl::Hours(24)) {
    return Invalid(text, "a duration from 0 to 24h; write it with a unit, such as 500ms, 5s or 1m30s");
  }
  return duration;
}

absl::StatusOr<int> ParseCount(absl::string_view text, int minimum, int maximum) {
  int value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < minimum || value > maximum) {
    return Invalid(text, absl::StrCat("a number from ", minimum, " to ", maximum));
  }
  return value;
}

absl::Status CheckAddress(absl::string_view address) {
  absl::string_view path = address;
  if (absl::ConsumePrefix(&path, "unix:")) {
    // sockaddr_un holds 108 bytes with the final zero.
    if (path.empty() || path.size() > 107)
      return Invalid(address, "a Unix socket; write unix:PATH, PATH of at most 107 bytes");
    return absl::OkStatus();
  }
  static constexpr char kWanted[] = "an address; write HOST:PORT (port 0 to 65535, 0 for any free one) or unix:PATH";
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return Invalid(address, kWanted);
  const absl::string_view host = address.substr(0, colon);
  const bool bracketed = host.front() == '[' && host.back() == ']';
  if (!bracketed && absl::StrContains(host, ":")) {
    return Invalid(address, "an address; put an IPv6 host into brackets, such as [::1]:7433");
  }
  int port = -1;
  if (!absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) return Invalid(address, kWanted);
  return absl::OkStatus();
}

std::string ClosestName(absl::string_view name, const std::vector<std::string>& names) {
  std::string best;
  size_t least = 4;  // more than three slips is another word
  for (const std::string& candidate : names) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < std::min(least, candidate.size())) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace sconce
