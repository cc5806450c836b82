#ifndef SCONCE_CLIENT_CLI_COMMAND_H_
#define SCONCE_CLIENT_CLI_COMMAND_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/args.h"
#include "client/cpp/client.h"

namespace sconce::cli {

// What a command works with. Data goes to standard output, everything else to standard error.
struct Context {
  const Args& args;
  client::Client& client;
};

// One verb of the tool, in a file of its own under commands/.
struct Command {
  std::string name;     // "push", or "module push"
  std::string usage;    // the words after the name: "FILE [PROJECT/]RUN"
  std::string summary;  // one line
  std::string details;  // paragraphs for its --help; may be empty
  std::vector<Option> options;
  size_t min_words = 0;
  size_t max_words = 0;
  std::function<absl::Status(Context&)> run;
};

// In the order the help shows them.
std::vector<Command> AllCommands();

Command PushCommand();
Command PullCommand();
Command LsCommand();
Command ShowCommand();
Command PlanCommand();
Command RmCommand();
Command WatchCommand();
Command RunsCommand();
Command RunSetCommand();
Command RunRetentionCommand();
Command RunRmCommand();
Command AliasCommand();
Command AliasRmCommand();
Command UpdateCommand();
Command UploadShowCommand();
Command UploadAbortCommand();
Command ModulePushCommand();
Command ModulePullCommand();
Command ModuleLsCommand();
Command ModuleRmCommand();
Command ModelDeployCommand();
Command ModelUpdateCommand();
Command ModelRollbackCommand();
Command ModelLsCommand();
Command ModelShowCommand();
Command ModelRmCommand();
Command InferCommand();
Command HealthCommand();
Command StatsCommand();
Command AdminStatsCommand();
Command AdminGcCommand();
Command AdminVerifyCommand();
Command AdminBackupCommand();

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_COMMAND_H_
