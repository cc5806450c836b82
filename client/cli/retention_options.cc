#include "client/cli/retention_options.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/expiry.h"

namespace sconce::cli {
namespace {

absl::StatusOr<absl::Duration> KeptAge(const std::string& text) {
  if (const std::optional<absl::Duration> age = ParseAge(text)) return *age;
  return MakeError(Reason::ARGUMENT_INVALID,
                   absl::StrCat("--keep-younger-than takes a time such as 12h or 7d, not ", Quoted(text)));
}

}  // namespace

std::vector<Option> RetentionOptions() {
  return {{"keep-last", 0, "N", "keep the newest N versions"},
          {"keep-best", 0, "N", "keep the best N by the run's metric"},
          {"keep-every-steps", 0, "K", "keep versions whose step is a multiple of K"},
          {"keep-younger-than", 0, "TIME", "keep versions younger than TIME: 12h, 7d"}};
}

bool HasRetention(const Args& args) {
  for (const Option& option : RetentionOptions()) {
    if (args.Has(option.name)) return true;
  }
  return false;
}

absl::StatusOr<v1::RetentionPolicy> ChosenRetention(const Args& args) {
  v1::RetentionPolicy policy;
  SCONCE_ASSIGN_OR_RETURN(const auto last, args.GetInt("keep-last"));
  SCONCE_ASSIGN_OR_RETURN(const auto best, args.GetInt("keep-best"));
  SCONCE_ASSIGN_OR_RETURN(const auto steps, args.GetInt("keep-every-steps"));
  policy.set_keep_last(last.value_or(0));
  policy.set_keep_best(best.value_or(0));
  policy.set_keep_every_steps(steps.value_or(0));
  if (args.Has("keep-younger-than")) {
    SCONCE_ASSIGN_OR_RETURN(const absl::Duration age, KeptAge(args.Get("keep-younger-than")));
    policy.mutable_keep_younger_than()->set_seconds(absl::ToInt64Seconds(age));
  }
  return policy;
}

}  // namespace sconce::cli
