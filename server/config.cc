#include "server/config.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/config_values.h"

namespace sconce {
namespace {

// One setting. `values` has one element unless it is repeatable.
struct Setting {
  const char* group;
  const char* name;
  const char* value;  // how its value is called in the help
  const char* shown_default;
  const char* help;
  absl::Status (*set)(const std::vector<std::string>& values, ServerConfig& config);
  bool repeatable = false;
};

template <int ServerConfig::*field, int minimum, int maximum>
absl::Status SetCount(const std::vector<std::string>& values, ServerConfig& config) {
  SCONCE_ASSIGN_OR_RETURN(config.*field, ParseCount(values[0], minimum, maximum));
  return absl::OkStatus();
}

template <absl::Duration ServerConfig::*field>
absl::Status SetDuration(const std::vector<std::string>& values, ServerConfig& config) {
  SCONCE_ASSIGN_OR_RETURN(config.*field, ParsePositiveDuration(values[0]));
  return absl::OkStatus();
}

template <std::string ServerConfig::*field>
absl::Status SetText(const std::vector<std::string>& values, ServerConfig& config) {
  if (values[0].empty()) return MakeError(Reason::CONFIG_INVALID, "a value is missing");
  config.*field = values[0];
  return absl::OkStatus();
}

template <int64_t ServerConfig::*field>
absl::Status SetBytes(const std::vector<std::string>& values, ServerConfig& config) {
  SCONCE_ASSIGN_OR_RETURN(config.*field, ParseBytes(values[0]));
  return absl::OkStatus();
}

absl::Status SetUploadTtl(const std::vector<std::string>& values, ServerConfig& config) {
  SCONCE_ASSIGN_OR_RETURN(config.upload_ttl, ParsePositiveDuration(values[0]));
  if (config.upload_ttl >= absl::Minutes(5)) return absl::OkStatus();
  return MakeError(Reason::CONFIG_INVALID,
                   absl::StrCat(Quoted(values[0]), " is too short for an upload that goes on; give at least 5m"));
}

absl::Status SetChangeLogAge(const std::vector<std::string>& values, ServerConfig& config) {
  constexpr int kMaxHours = 24 * 3660;
  absl::Duration age;
  if (!absl::ParseDuration(values[0], &age) || age < absl::ZeroDuration() || age > absl::Hours(kMaxHours)) {
    return MakeError(Reason::CONFIG_INVALID, absl::StrCat(Quoted(values[0]), " is not a duration from 0 to ", kMaxHours,
                                                          "h; write it with a unit, such as 168h"));
  }
  config.change_log_age = age;
  return absl::OkStatus();
}

absl::Status SetHeartbeat(const std::vector<std::string>& values, ServerConfig& config) {
  SCONCE_ASSIGN_OR_RETURN(config.heartbeat_interval, ParsePositiveDuration(values[0]));
  if (config.heartbeat_interval >= absl::Milliseconds(100)) return absl::OkStatus();
  return MakeError(Reason::CONFIG_INVALID, absl::StrCat(Quoted(values[0]), " is too often; give 100ms or more"));
}

absl::Status SetListen(const std::vector<std::string>& values, ServerConfig& config) {
  config.listen.clear();
  for (const std::string& value : values) {
    for (const absl::string_view part : absl::StrSplit(value, ',')) {
      const absl::string_view address = absl::StripAsciiWhitespace(part);
      SCONCE_RETURN_IF_ERROR(CheckAddress(address));
      config.listen.emplace_back(address);
    }
  }
  return absl::OkStatus();
}

absl::Status SetMetricsListen(const std::vector<std::string>& values, ServerConfig& config) {
  if (values[0] == "none") {
    config.metrics_listen.clear();
    return absl::OkStatus();
  }
  SCONCE_RETURN_IF_ERROR(CheckAddress(values[0]));
  if (absl::StartsWith(values[0], "unix:")) {
    return MakeError(Reason::CONFIG_INVALID, absl::StrCat(Quoted(values[0]), ": metrics are served on HOST:PORT only"));
  }
  config.metrics_listen = values[0];
  return absl::OkStatus();
}

absl::Status SetLogFormat(const std::vector<std::string>& values, ServerConfig& config) {
  if (values[0] != "json" && values[0] != "text") {
    return MakeError(Reason::CONFIG_INVALID, absl::StrCat(Quoted(values[0]), " is not json or text"));
  }
  config.log_format = values[0] == "json" ? LogFormat::kJson : LogFormat::kText;
  return absl::OkStatus();
}

absl::Status SetLogLevel(const std::vector<std::string>& values, ServerConfig& config) {
  static const std::map<std::string, Severity> kLevels = {
      {"info", Severity::kInfo}, {"warn", Severity::kWarn}, {"error", Severity::kError}};
  const auto level = kLevels.find(values[0]);
  if (level == kLevels.end()) {
    return MakeError(Reason::CONFIG_INVALID, absl::StrCat(Quoted(values[0]), " is not info, warn or error"));
  }
  config.log_level = level->second;
  return absl::OkStatus();
}

// In the order of the help.
constexpr Setting kSettings[] = {
    {"Where things are", "data-dir", "DIR", "./sconce-data", "where everything is stored; made when it is not there",
     SetText<&ServerConfig::data_dir>},
    {"Where things are", "backup-dir", "DIR", "none", "backups may be taken, to new directories below this one",
     SetText<&ServerConfig::backup_dir>},
    {"Where things are", "min-free-bytes", "SIZE", "256MiB", "pushes are refused when the disk has less room than this",
     SetBytes<&ServerConfig::min_free_bytes>},
    {"Where things are", "compact-rate", "SIZE", "64MiB",
     "bytes a second that compaction copies in the background; 0: no limit",
     SetBytes<&ServerConfig::compact_bytes_per_second>},
    {"Where things are", "upload-ttl", "TIME", "24h", "an upload that nobody goes on with for so long is dropped",
     SetUploadTtl},
    {"Where things are", "scrub-rate", "SIZE", "20MiB",
     "how much a second the scrub reads of what is stored; 0: no scrub",
     SetBytes<&ServerConfig::scrub_bytes_per_second>},
    {"Network", "listen", "ADDRESS", "127.0.0.1:7433", "HOST:PORT or unix:PATH; port 0 takes any free one; repeatable",
     SetListen, true},
    {"Network", "metrics-listen", "ADDRESS", "127.0.0.1:7434", "HOST:PORT of /metrics for Prometheus, or none",
     SetMetricsListen},
    {"Log", "log-format", "FORMAT", "json", "of the lines on stderr: json or text", SetLogFormat},
    {"Log", "log-level", "LEVEL", "info", "the least that is logged: info, warn or error", SetLogLevel},
    {"Models", "worker", "FILE", "beside sconced", "the program that runs models, sconce-torch-worker",
     SetText<&ServerConfig::worker>},
    {"Models", "worker-memory-limit", "SIZE", "half the machine",
     "that the process of a model may take beside its weights", SetBytes<&ServerConfig::worker_memory_limit>},
    {"Models", "worker-timeout", "TIME", "60s", "a request that a model runs for longer ends its process",
     SetDuration<&ServerConfig::worker_timeout>},
    {"Stopping", "grace-period", "TIME", "0s", "after SIGTERM, how long to serve on as NOT_SERVING, for load balancers",
     SetDuration<&ServerConfig::grace_period>},
    {"Stopping", "drain-timeout", "TIME", "30s", "then, how long calls under way may take before they are cancelled",
     SetDuration<&ServerConfig::drain_timeout>},
    {"Watches", "change-log-entries", "N", "1000000", "of the change log, which watches resume from, keep the newest N",
     SetCount<&ServerConfig::change_log_entries, 1, 1'000'000'000>},
    {"Watches", "change-log-age", "TIME", "168h", "and what is younger than this", SetChangeLogAge},
    {"Watches", "heartbeat-interval", "TIME", "15s", "how often a quiet watch is told that it is alive", SetHeartbeat},
    {"Threads", "unary-threads", "N", "4", "for small calls", SetCount<&ServerConfig::unary_threads, 1, 256>},
    {"Threads", "stream-threads", "N", "4", "for the steps of transfers",
     SetCount<&ServerConfig::stream_threads, 1, 256>},
    {"Threads", "ingest-threads", "N", "2", "for hashing and writing what is pushed",
     SetCount<&ServerConfig::ingest_threads, 1, 256>},
};

std::string EnvironmentName(absl::string_view name) {
  return absl::StrCat("SCONCE_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
}

const Setting* FindSetting(absl::string_view name) {
  for (const Setting& setting : kSettings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

absl::Status UnknownName(absl::string_view place, absl::string_view name, absl::string_view dashes) {
  std::vector<std::string> names = {"config", "help", "rebuild-catalog", "version"};
  for (const Setting& setting : kSettings) names.emplace_back(setting.name);
  const std::string closest = ClosestName(name, names);
  return MakeError(
      Reason::CONFIG_INVALID,
      absl::StrCat(place, " is not known", closest.empty() ? "" : absl::StrCat("; did you mean ", dashes, closest, "?"),
                   closest.empty() ? "; sconced --help lists all" : ""));
}

// What one source says: name -> values, in the order given.
using Given = std::map<std::string, std::vector<std::string>>;

absl::Status Add(Given& given, absl::string_view place, const Setting& setting, std::string value) {
  std::vector<std::string>& values = given[setting.name];
  if (!values.empty() && !setting.repeatable) {
    return MakeError(Reason::CONFIG_INVALID, absl::StrCat(place, " is given twice; give it once"));
  }
  values.push_back(std::move(value));
  return absl::OkStatus();
}

absl::StatusOr<Given> ParseFile(const std::string& path, absl::string_view text) {
  Given given;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const std::string place = absl::StrCat(path, ":", number);
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (parts.size() != 2) {
      return MakeError(Reason::CONFIG_INVALID,
                       absl::StrCat(place, ": write NAME = VALUE, such as listen = 127.0.0.1:7433"));
    }
    const absl::string_view name = absl::StripAsciiWhitespace(parts[0]);
    const Setting* setting = FindSetting(name);
    if (setting == nullptr) return UnknownName(absl::StrCat(place, ": ", Quoted(name)), name, "");
    SCONCE_RETURN_IF_ERROR(
        Add(given, absl::StrCat(place, ": ", name), *setting, std::string(absl::StripAsciiWhitespace(parts[1]))));
  }
  return given;
}

struct ParsedArguments {
  CommandLine::Action action = CommandLine::Action::kServe;
  Given given;
  std::optional<std::string> config_file;
};

absl::StatusOr<ParsedArguments> ParseArguments(const std::vector<std::string>& arguments) {
  ParsedArguments parsed;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view rest = arguments[i];
    if (rest == "-h" || rest == "--help") {
      parsed.action = CommandLine::Action::kShowHelp;
      return parsed;
    }
    if (rest == "--version") {
      parsed.action = CommandLine::Action::kShowVersion;
      return parsed;
    }
    if (rest == "--rebuild-catalog") {
      parsed.action = CommandLine::Action::kRebuildCatalog;
      continue;
    }
    if (!absl::ConsumePrefix(&rest, "--")) {
      return MakeError(
          Reason::CONFIG_INVALID,
          absl::StrCat(Quoted(arguments[i]), " is not a flag; sconced takes only flags, see sconced --help"));
    }
    const size_t equals = rest.find('=');
    const absl::string_view name = rest.substr(0, equals);
    const Setting* setting = FindSetting(name);
    if (setting == nullptr && name != "config") return UnknownName(absl::StrCat("flag --", name), name, "--");
    std::string value;
    if (equals != absl::string_view::npos) {
      value = std::string(rest.substr(equals + 1));
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return MakeError(Reason::CONFIG_INVALID, absl::StrCat("flag --", name, " needs a value"));
    }
    if (setting == nullptr) {
      parsed.config_file = std::move(value);
    } else {
      SCONCE_RETURN_IF_ERROR(Add(parsed.given, absl::StrCat("flag --", name), *setting, std::move(value)));
    }
  }
  return parsed;
}

}  // namespace

ConfigSources SystemConfigSources() {
  return {[](const std::string& name) -> std::optional<std::string> {
            const char* value = std::getenv(name.c_str());
            return value == nullptr ? std::nullopt : std::optional<std::string>(value);
          },
          [](const std::string& path) -> absl::StatusOr<std::string> {
            std::ifstream file(path);
            std::ostringstream text;
            text << file.rdbuf();
            if (!file) {
              return MakeError(Reason::CONFIG_INVALID, absl::StrCat("config file ", Quoted(path), " cannot be read"));
            }
            return text.str();
          }};
}

absl::StatusOr<CommandLine> ReadConfig(const std::vector<std::string>& arguments, const ConfigSources& sources) {
  SCONCE_ASSIGN_OR_RETURN(ParsedArguments parsed, ParseArguments(arguments));
  CommandLine line;
  line.action = parsed.action;
  const bool runs = line.action == CommandLine::Action::kServe || line.action == CommandLine::Action::kRebuildCatalog;
  if (!runs) return line;

  Given file;
  if (!parsed.config_file.has_value()) parsed.config_file = sources.environment("SCONCE_CONFIG");
  if (parsed.config_file.has_value()) {
    SCONCE_ASSIGN_OR_RETURN(const std::string text, sources.read_file(*parsed.config_file));
    SCONCE_ASSIGN_OR_RETURN(file, ParseFile(*parsed.config_file, text));
  }
  for (const Setting& setting : kSettings) {
    std::string place;
    std::vector<std::string> values;
    if (const auto flag = parsed.given.find(setting.name); flag != parsed.given.end()) {
      place = absl::StrCat("flag --", setting.name);
      values = flag->second;
    } else if (auto variable = sources.environment(EnvironmentName(setting.name)); variable.has_value()) {
      place = absl::StrCat("environment variable ", EnvironmentName(setting.name));
      values = {*std::move(variable)};
    } else if (const auto in_file = file.find(setting.name); in_file != file.end()) {
      place = absl::StrCat(*parsed.config_file, ": ", setting.name);
      values = in_file->second;
    } else {
      continue;
    }
    const absl::Status set = setting.set(values, line.config);
    if (!set.ok()) return Annotate(set, place);
  }
  return line;
}

std::string HelpText() {
  std::string help =
      "sconced stores PyTorch checkpoints and serves them over gRPC.\n"
      "\n"
      "  sconced [--data-dir DIR] [--listen ADDRESS]... [other flags]\n"
      "\n"
      "Each flag is also an environment variable (--data-dir is SCONCE_DATA_DIR) and a line of the config file\n"
      "(data-dir = DIR). A flag wins over the variable, the variable over the file. No flag is needed.\n";
  std::string group;
  for (const Setting& setting : kSettings) {
    if (setting.group != group) {
      group = setting.group;
      absl::StrAppend(&help, "\n", group, "\n");
    }
    absl::StrAppendFormat(&help, "  %-25s %s (%s)\n", absl::StrCat("--", setting.name, " ", setting.value),
                          setting.help, setting.shown_default);
  }
  absl::StrAppend(
      &help,
      "\nOther\n"
      "  --config FILE             reads settings from FILE (none)\n"
      "  --rebuild-catalog         makes a new catalog for the data directory from its blobs, says what it found, and\n"
      "                            ends; for a catalog that is lost or damaged. The old one is kept beside it\n"
      "  --help, --version         print this, or the version\n"
      "\n"
      "It prints one line on stdout when it is ready, and logs to stderr. SIGTERM or SIGINT stops it in good\n"
      "order; a second one at once.\n");
  return help;
}

bool IsLocalAddress(absl::string_view address) {
  return absl::StartsWith(address, "unix:") || absl::StartsWith(address, "127.") ||
         absl::StartsWith(address, "[::1]:") || absl::StartsWith(address, "localhost:");
}

}  // namespace sconce
