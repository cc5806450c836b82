#ifndef SCONCE_SERVER_CONFIG_H_
#define SCONCE_SERVER_CONFIG_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/log.h"

namespace sconce {

// What sconced can be told. Every default works.
struct ServerConfig {
  std::string data_dir = "./sconce-data";
  std::string backup_dir;  // "": no backups
  int64_t min_free_bytes = int64_t{256} << 20;
  int64_t compact_bytes_per_second = int64_t{64} << 20;  // 0: no limit
  absl::Duration upload_ttl = absl::Hours(24);
  int64_t scrub_bytes_per_second = int64_t{20} << 20;  // 0: no scrub

  std::vector<std::string> listen = {"127.0.0.1:7433"};
  std::string metrics_listen = "127.0.0.1:7434";  // HOST:PORT; "": none

  LogFormat log_format = LogFormat::kJson;
  Severity log_level = Severity::kInfo;

  absl::Duration grace_period = absl::ZeroDuration();
  absl::Duration drain_timeout = absl::Seconds(30);

  int change_log_entries = 1'000'000;
  absl::Duration change_log_age = absl::Hours(168);
  absl::Duration heartbeat_interval = absl::Seconds(15);

  int unary_threads = 4;
  int stream_threads = 4;
  int ingest_threads = 2;

  std::string worker;               // of inference; "": sconce-torch-worker beside the program
  int64_t worker_memory_limit = 0;  // 0: half of the machine's
  absl::Duration worker_timeout = absl::Seconds(60);
};

struct CommandLine {
  enum class Action { kServe, kRebuildCatalog, kShowHelp, kShowVersion };
  Action action = Action::kServe;
  ServerConfig config;
};

// Where settings come from besides the command line; tests give their own.
struct ConfigSources {
  std::function<std::optional<std::string>(const std::string& name)> environment;
  std::function<absl::StatusOr<std::string>(const std::string& path)> read_file;
};
ConfigSources SystemConfigSources();

// The settings of `arguments` (without the program's name): a flag wins over an environment variable, that over the
// config file, that over the default. Every setting has one name: `--data-dir X` or `--data-dir=X`, SCONCE_DATA_DIR=X,
// and `data-dir = X` in the file that --config or SCONCE_CONFIG names (lines; # starts a comment). `listen` may be
// given more than once, or with commas; the highest source that names it replaces the others' list. CONFIG_INVALID says
// what is wrong, where it was said, and what would be right.
absl::StatusOr<CommandLine> ReadConfig(const std::vector<std::string>& arguments, const ConfigSources& sources);

// What `sconced --help` prints.
std::string HelpText();

// True for an address only this machine can reach: 127.x.x.x, [::1], localhost, a Unix socket.
bool IsLocalAddress(absl::string_view address);

}  // namespace sconce

#endif  // SCONCE_SERVER_CONFIG_H_
