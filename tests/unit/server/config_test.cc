#include "server/config.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ConfigTest : public ::testing::Test {
 protected:
  absl::StatusOr<CommandLine> Read(const std::vector<std::string>& arguments) {
    return ReadConfig(arguments, {[this](const std::string& name) -> std::optional<std::string> {
                                    const auto found = environment_.find(name);
                                    return found == environment_.end() ? std::nullopt : std::optional(found->second);
                                  },
                                  [this](const std::string& path) -> absl::StatusOr<std::string> {
                                    const auto found = files_.find(path);
                                    if (found == files_.end()) return MakeError(Reason::CONFIG_INVALID, "no such file");
                                    return found->second;
                                  }});
  }

  std::map<std::string, std::string> environment_;
  std::map<std::string, std::string> files_;
};

TEST_F(ConfigTest, NothingNeedsToBeSaid) {
  ASSERT_OK_AND_ASSIGN(const CommandLine line, Read({}));
  EXPECT_EQ(line.action, CommandLine::Action::kServe);
  EXPECT_EQ(line.config.data_dir, "./sconce-data");
  EXPECT_THAT(line.config.listen, ElementsAre("127.0.0.1:7433"));
  EXPECT_EQ(line.config.metrics_listen, "127.0.0.1:7434");
  EXPECT_EQ(line.config.log_format, LogFormat::kJson);
  EXPECT_EQ(line.config.drain_timeout, absl::Seconds(30));
}

TEST_F(ConfigTest, AFlagWinsOverTheEnvironmentOverTheFileOverTheDefault) {
  files_["f"] = "data-dir = from-file\nlog-level = error\nunary-threads = 3\n";
  environment_["SCONCE_DATA_DIR"] = "from-environment";
  environment_["SCONCE_LOG_LEVEL"] = "warn";
  ASSERT_OK_AND_ASSIGN(const CommandLine line, Read({"--config", "f", "--data-dir", "from-flag"}));
  EXPECT_EQ(line.config.data_dir, "from-flag");
  EXPECT_EQ(line.config.log_level, Severity::kWarn);
  EXPECT_EQ(line.config.unary_threads, 3);
  EXPECT_EQ(line.config.stream_threads, ServerConfig().stream_threads);
}

TEST_F(ConfigTest, ARebuildTakesTheSameSettings) {
  ASSERT_OK_AND_ASSIGN(const CommandLine line, Read({"--rebuild-catalog", "--data-dir", "d"}));
  EXPECT_EQ(line.action, CommandLine::Action::kRebuildCatalog);
  EXPECT_EQ(line.config.data_dir, "d");
  EXPECT_THAT(Read({"--rebuild-catalogs"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("--rebuild-catalog")));
}

TEST_F(ConfigTest, BothWaysToWriteAFlag) {
  EXPECT_EQ(Read({"--data-dir=x=y"})->config.data_dir, "x=y");
  EXPECT_EQ(Read({"--data-dir", "--odd"})->config.data_dir, "--odd");
}

TEST_F(ConfigTest, ListenIsRepeatableAndReplacedAsAWhole) {
  files_["f"] = "# comment\n\n listen = 127.0.0.1:1  # the first\nlisten = unix:/a\n";
  environment_["SCONCE_CONFIG"] = "f";
  EXPECT_THAT(Read({})->config.listen, ElementsAre("127.0.0.1:1", "unix:/a"));
  environment_["SCONCE_LISTEN"] = "127.0.0.1:2, [::1]:3";
  EXPECT_THAT(Read({})->config.listen, ElementsAre("127.0.0.1:2", "[::1]:3"));
  EXPECT_THAT(Read({"--listen", "127.0.0.1:0", "--listen=unix:/b"})->config.listen,
              ElementsAre("127.0.0.1:0", "unix:/b"));
}

TEST_F(ConfigTest, EverySettingCanBeSaid) {
  ASSERT_OK_AND_ASSIGN(const CommandLine line, Read({"--data-dir",
                                                     "d",
                                                     "--min-free-bytes",
                                                     "1GiB",
                                                     "--worker",
                                                     "w",
                                                     "--worker-memory-limit",
                                                     "3GiB",
                                                     "--worker-timeout",
                                                     "7s",
                                                     "--listen",
                                                     "localhost:1",
                                                     "--metrics-listen",
                                                     "127.0.0.1:0",
                                                     "--log-format",
                                                     "text",
                                                     "--log-level",
                                                     "error",
                                                     "--grace-period",
                                                     "5s",
                                                     "--drain-timeout",
                                                     "1m",
                                                     "--unary-threads",
                                                     "1",
                                                     "--stream-threads",
                                                     "2",
                                                     "--ingest-threads",
                                                     "3",
                                                     "--compact-rate",
                                                     "8MiB",
                                                     "--upload-ttl",
                                                     "90m",
                                                     "--scrub-rate",
                                                     "1MiB",
                                                     "--change-log-entries",
                                                     "9",
                                                     "--change-log-age",
                                                     "48h",
                                                     "--heartbeat-interval",
                                                     "2s"}));
  const ServerConfig& config = line.config;
  EXPECT_EQ(config.data_dir, "d");
  EXPECT_EQ(config.min_free_bytes, int64_t{1} << 30);
  EXPECT_EQ(config.compact_bytes_per_second, int64_t{8} << 20);
  EXPECT_EQ(config.upload_ttl, absl::Minutes(90));
  EXPECT_EQ(config.worker, "w");
  EXPECT_EQ(config.worker_memory_limit, int64_t{3} << 30);
  EXPECT_EQ(config.worker_timeout, absl::Seconds(7));
  EXPECT_THAT(config.listen, ElementsAre("localhost:1"));
  EXPECT_EQ(config.metrics_listen, "127.0.0.1:0");
  EXPECT_EQ(config.log_format, LogFormat::kText);
  EXPECT_EQ(config.log_level, Severity::kError);
  EXPECT_EQ(config.grace_period, absl::Seconds(5));
  EXPECT_EQ(config.drain_timeout, absl::Minutes(1));
  EXPECT_EQ(config.unary_threads, 1);
  EXPECT_EQ(config.stream_threads, 2);
  EXPECT_EQ(config.ingest_threads, 3);
  EXPECT_EQ(config.change_log_entries, 9);
  EXPECT_EQ(config.change_log_age, absl::Hours(48));
  EXPECT_EQ(config.heartbeat_interval, absl::Seconds(2));
}

TEST_F(ConfigTest, AMistakeIsToldWithItsPlaceAndWhatWouldBeRight) {
  EXPECT_THAT(Read({"--no-such-flag"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("flag --no-such-flag")));
  EXPECT_THAT(Read({"--data-dri", "x"}),
              FailsWith(Reason::CONFIG_INVALID, AllOf(HasSubstr("--data-dri"), HasSubstr("did you mean --data-dir?"))));
  EXPECT_THAT(Read({"--listen", "nonsense"}),
              FailsWith(Reason::CONFIG_INVALID,
                        AllOf(HasSubstr("flag --listen"), HasSubstr("nonsense"), HasSubstr("HOST:PORT"))));
  EXPECT_THAT(Read({"--listen", "127.0.0.1:99999"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("99999")));
  EXPECT_THAT(Read({"--data-dir"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("needs a value")));
  EXPECT_THAT(Read({"--data-dir="}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("missing")));
  EXPECT_THAT(Read({"--data-dir", "a", "--data-dir", "b"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("twice")));
  EXPECT_THAT(Read({"serve"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("\"serve\" is not a flag")));
  EXPECT_THAT(Read({"--unary-threads", "0"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("from 1 to 256")));
  EXPECT_THAT(Read({"--log-level", "loud"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("info, warn or error")));
  EXPECT_THAT(Read({"--log-format", "xml"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("json or text")));
  EXPECT_THAT(Read({"--grace-period", "5"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("5s")));
  EXPECT_THAT(Read({"--upload-ttl", "1m"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("at least 5m")));
  environment_["SCONCE_MIN_FREE_BYTES"] = "lots";
  EXPECT_THAT(Read({}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("environment variable SCONCE_MIN_FREE_BYTES")));
  environment_.clear();
  files_["f"] = "data-dir = d\n\nlissten = x\n";
  EXPECT_THAT(Read({"--config", "f"}),
              FailsWith(Reason::CONFIG_INVALID, AllOf(HasSubstr("f:3"), HasSubstr("listen?"))));
  files_["f"] = "data-dir\n";
  EXPECT_THAT(Read({"--config", "f"}), FailsWith(Reason::CONFIG_INVALID, HasSubstr("f:1")));
  EXPECT_THAT(Read({"--config", "nowhere"}), FailsWith(Reason::CONFIG_INVALID));
}

TEST_F(ConfigTest, HelpAndVersionWorkWhateverElseIsWrong) {
  environment_["SCONCE_LISTEN"] = "nonsense";
  EXPECT_EQ(Read({"--help"})->action, CommandLine::Action::kShowHelp);
  EXPECT_EQ(Read({"-h"})->action, CommandLine::Action::kShowHelp);
  EXPECT_EQ(Read({"--version"})->action, CommandLine::Action::kShowVersion);
}

TEST_F(ConfigTest, TheHelpNamesEverySettingInLinesThatFit) {
  const std::string help = HelpText();
  for (const char* name :
       {"--data-dir",     "--listen",         "--metrics-listen",     "--log-format",          "--log-level",
        "--grace-period", "--drain-timeout",  "--unary-threads",      "--stream-threads",      "--ingest-threads",
        "--worker",       "--min-free-bytes", "--change-log-entries", "--change-log-age",      "--heartbeat-interval",
        "--compact-rate", "--upload-ttl",     "--scrub-rate",         "--worker-memory-limit", "--worker-timeout",
        "--config",       "--version",        "127.0.0.1:7433",       "./sconce-data",         "SCONCE_DATA_DIR"}) {
    EXPECT_THAT(help, HasSubstr(name));
  }
  for (const absl::string_view line : absl::StrSplit(help, '\n')) EXPECT_LE(line.size(), 120u) << line;
}

TEST_F(ConfigTest, TheDefaultsInTheHelpAreTheDefaults) {
  // Each setting given as the help shows it changes nothing.
  for (const char* pair :
       {"data-dir ./sconce-data", "min-free-bytes 256MiB", "compact-rate 64MiB", "upload-ttl 24h", "scrub-rate 20MiB",
        "listen 127.0.0.1:7433", "metrics-listen 127.0.0.1:7434", "log-format json", "log-level info",
        "grace-period 0s", "drain-timeout 30s", "unary-threads 4", "stream-threads 4", "ingest-threads 2",
        "change-log-entries 1000000", "change-log-age 168h", "heartbeat-interval 15s", "worker-timeout 60s"}) {
    const std::vector<std::string> parts = absl::StrSplit(pair, ' ');
    EXPECT_THAT(HelpText(), HasSubstr(absl::StrCat("(", parts[1], ")"))) << pair;
    ASSERT_OK_AND_ASSIGN(const CommandLine line, Read({absl::StrCat("--", parts[0]), parts[1]}));
    const ServerConfig& config = line.config;
    const ServerConfig defaults;
    EXPECT_EQ(config.data_dir, defaults.data_dir);
    EXPECT_EQ(config.min_free_bytes, defaults.min_free_bytes);
    EXPECT_EQ(config.compact_bytes_per_second, defaults.compact_bytes_per_second);
    EXPECT_EQ(config.upload_ttl, defaults.upload_ttl);
    EXPECT_EQ(config.scrub_bytes_per_second, defaults.scrub_bytes_per_second);
    EXPECT_EQ(config.listen, defaults.listen);
    EXPECT_EQ(config.metrics_listen, defaults.metrics_listen);
    EXPECT_EQ(config.log_format, defaults.log_format);
    EXPECT_EQ(config.log_level, defaults.log_level);
    EXPECT_EQ(config.grace_period, defaults.grace_period);
    EXPECT_EQ(config.drain_timeout, defaults.drain_timeout);
    EXPECT_EQ(config.unary_threads, defaults.unary_threads);
    EXPECT_EQ(config.stream_threads, defaults.stream_threads);
    EXPECT_EQ(config.ingest_threads, defaults.ingest_threads);
    EXPECT_EQ(config.change_log_entries, defaults.change_log_entries);
    EXPECT_EQ(config.change_log_age, defaults.change_log_age);
    EXPECT_EQ(config.heartbeat_interval, defaults.heartbeat_interval);
  }
}

TEST_F(ConfigTest, LocalAddresses) {
  for (const char* address : {"127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1", "unix:/x"}) {
    EXPECT_TRUE(IsLocalAddress(address)) << address;
  }
  for (const char* address : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1", "localhost.example.com:1"}) {
    EXPECT_FALSE(IsLocalAddress(address)) << address;
  }
}

}  // namespace
}  // namespace sconce
