#include "client/cli/output.h"

#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/strings.h"
#include "client/cli/table.h"
#include "google/protobuf/util/json_util.h"

namespace sconce::cli {
namespace {

template <typename Map, typename Format>
std::string JoinSorted(const Map& pairs, Format format) {
  std::map<std::string, std::string> sorted;
  for (const auto& [key, value] : pairs) sorted[key] = format(value);
  return absl::StrJoin(sorted, ", ", absl::PairFormatter("="));
}

}  // namespace

Option OutputOption() {
  return {"output", 'o', "table|json|name", "how to print: a table for people, JSON, or only names (default: table)"};
}

absl::StatusOr<OutputFormat> ChosenFormat(const Args& args) {
  const std::string name = args.Get("output", "table");
  if (name == "table") return OutputFormat::kTable;
  if (name == "json") return OutputFormat::kJson;
  if (name == "name") return OutputFormat::kName;
  return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("-o takes table, json or name, not ", Quoted(name)));
}

void Print(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void Note(absl::string_view text) {
  std::fflush(stdout);
  std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

void PrintJson(const google::protobuf::Message& message, const ExtraNumbers& extra) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) Note(absl::StrCat("cannot print as JSON: ", status.ToString()));
  // The text ends with "\n}\n", or is "{}".
  for (const auto& [name, value] : extra) {
    const size_t end = json.find_last_of('}');
    const bool first = end > 0 && json[end - 1] == '{';
    json = absl::StrCat(json.substr(0, first ? end : end - 1), first ? "" : ",", "\n \"", name, "\": \"", value,
                        "\"\n}\n");
  }
  Print(json);
}

absl::Time ToTime(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

std::string JoinPairs(const google::protobuf::Map<std::string, std::string>& pairs) {
  return JoinSorted(pairs, [](const std::string& value) { return value; });
}

std::string JoinMetrics(const google::protobuf::Map<std::string, double>& metrics) {
  return JoinSorted(metrics, ShortNumber);
}

}  // namespace sconce::cli
