#ifndef SCONCE_CLIENT_CLI_ARGS_H_
#define SCONCE_CLIENT_CLI_ARGS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sconce::cli {

// One option of a command: `--name VALUE`, `--name=VALUE`, or a bare `--name` when it has no value.
struct Option {
  std::string name;        // "map-location"; written with two dashes
  char letter = 0;         // 'o' for "-o VALUE"; 0: none
  std::string value_name;  // "DEVICE" in the help; empty: a flag
  std::string help;        // one line
  bool repeatable = false;
};

// The words of a command line, checked against what the command takes.
class Args {
 public:
  const std::vector<std::string>& positional() const { return positional_; }
  bool Has(const std::string& option) const { return values_.count(option) != 0; }
  // The last value given, or `otherwise`.
  std::string Get(const std::string& option, const std::string& otherwise = "") const;
  // All values given, in order.
  std::vector<std::string> All(const std::string& option) const;
  // ARGUMENT_INVALID naming the option when the value is no integer; nullopt when the option was not given.
  absl::StatusOr<std::optional<int64_t>> GetInt(const std::string& option) const;

 private:
  friend absl::StatusOr<Args> ParseArgs(const std::vector<Option>& options, const std::vector<std::string>& words);
  std::vector<std::string> positional_;
  std::map<std::string, std::vector<std::string>> values_;
};

// ARGUMENT_INVALID for an unknown option (naming a near one), a missing or superfluous value, one given twice. "--"
// ends the options.
absl::StatusOr<Args> ParseArgs(const std::vector<Option>& options, const std::vector<std::string>& words);

// "key=value" in two; ARGUMENT_INVALID naming `option` when there is no "=" or the key is empty.
absl::StatusOr<std::pair<std::string, std::string>> SplitPair(absl::string_view option, absl::string_view text);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_ARGS_H_
