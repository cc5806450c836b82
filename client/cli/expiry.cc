#include "client/cli/expiry.h"

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/strings.h"
#include "client/cli/output.h"

namespace sconce::cli {
namespace {

absl::Duration UnitOf(char letter) {
  switch (letter) {
    case 'd':
      return absl::Hours(24);
    case 'h':
      return absl::Hours(1);
    case 'm':
      return absl::Minutes(1);
    default:
      return absl::Seconds(1);
  }
}

}  // namespace

std::optional<absl::Duration> ParseAge(const std::string& text) {
  absl::Duration age;
  if (!text.empty() && text.back() == 'd' && absl::ParseDuration(text.substr(0, text.size() - 1) + "h", &age)) {
    age *= 24;
  } else if (!absl::ParseDuration(text, &age)) {
    return std::nullopt;
  }
  if (age <= absl::ZeroDuration() || age >= absl::Hours(24 * 366 * 100)) return std::nullopt;
  return age;
}

absl::StatusOr<Expiry> ParseExpiry(const std::string& text, absl::Time now) {
  if (text == "never") return Expiry{};
  if (const std::optional<absl::Duration> age = ParseAge(text)) {
    const absl::Duration since_1970 = now + *age - absl::UnixEpoch();
    return Expiry{absl::UnixEpoch() + absl::Ceil(since_1970, UnitOf(text.back())), true};
  }
  absl::Time time;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, nullptr) || time == absl::InfiniteFuture() ||
      time == absl::InfinitePast()) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("--expire takes a time such as 2027-01-31T12:00:00Z, or a duration such as 36h or "
                                  "14d, not ",
                                  Quoted(text)));
  }
  if (time <= now) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("--expire ", text, " is past; to delete a version at once use sconce rm"));
  }
  return Expiry{time, false};
}

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp timestamp;
  const timespec spec = absl::ToTimespec(time);
  timestamp.set_seconds(spec.tv_sec);
  timestamp.set_nanos(static_cast<int32_t>(spec.tv_nsec));
  return timestamp;
}

std::string FormatUtc(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", ToTime(time), absl::UTCTimeZone());
}

}  // namespace sconce::cli
