// The tool: `sconce <verb> [words] [options]`. Each verb is a Command of its own under commands/.
//
// Exit status: 0 done; 1 the call failed (the sentence on standard error ends with code and reason); 2 the command line
// is wrong; 3 the server cannot be reached.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/version.h"
#include "client/cli/command.h"
#include "client/cli/output.h"

namespace sconce::cli {

std::vector<Command> AllCommands() {
  return {PushCommand(),         PullCommand(),          LsCommand(),
          ShowCommand(),         PlanCommand(),          UpdateCommand(),
          RmCommand(),           AliasCommand(),         AliasRmCommand(),
          WatchCommand(),        RunsCommand(),          RunSetCommand(),
          RunRetentionCommand(), RunRmCommand(),         UploadShowCommand(),
          UploadAbortCommand(),  ModulePushCommand(),    ModulePullCommand(),
          ModuleLsCommand(),     ModuleRmCommand(),      ModelDeployCommand(),
          ModelUpdateCommand(),  ModelRollbackCommand(), ModelLsCommand(),
          ModelShowCommand(),    ModelRmCommand(),       InferCommand(),
          HealthCommand(),       StatsCommand(),         AdminStatsCommand(),
          AdminGcCommand(),      AdminVerifyCommand(),   AdminBackupCommand()};
}

namespace {

constexpr char kDefaultTarget[] = "127.0.0.1:7433";

Option TargetOption() {
  return {"target", 0, "HOST:PORT|unix:PATH",
          absl::StrCat("the server (default: $SCONCE_TARGET, else ", kDefaultTarget, ")")};
}
Option HelpOption() {
  return {"help", 'h', "", "show this"};
}

std::string OptionLine(const Option& option) {
  std::string left = option.letter != 0 ? absl::StrCat("-", std::string(1, option.letter), ", ") : "    ";
  absl::StrAppend(&left, "--", option.name, option.value_name.empty() ? "" : " ", option.value_name);
  if (left.size() > 32) return absl::StrFormat("  %s\n  %-34s%s\n", left, "", option.help);
  return absl::StrFormat("  %-34s%s\n", left, option.help);
}

std::string GeneralHelp() {
  std::string text =
      "sconce: store, fetch and serve PyTorch checkpoints\n\nusage: sconce COMMAND [words] [options]\n\ncommands:\n";
  for (const Command& command : AllCommands())
    absl::StrAppendFormat(&text, "  %-16s%s\n", command.name, command.summary);
  absl::StrAppend(
      &text, "\nEvery command has --help, and these options:\n", OptionLine(TargetOption()),
      OptionLine({"version", 0, "", "print the version"}),
      "\nRuns are named [PROJECT/]RUN (project: default), versions [PROJECT/]RUN@SELECTOR with a number, latest, best "
      "or an alias.\n"
      "Exit status: 0 done, 1 the call failed, 2 the command line is wrong, 3 the server cannot be reached.\n");
  return text;
}

std::string CommandHelp(const Command& command) {
  std::string text = absl::StrCat(command.summary, "\n\nusage: sconce ", command.name, command.usage.empty() ? "" : " ",
                                  command.usage, " [options]\n");
  if (!command.details.empty()) absl::StrAppend(&text, "\n", command.details, "\n");
  absl::StrAppend(&text, "\noptions:\n");
  for (const Option& option : command.options) absl::StrAppend(&text, OptionLine(option));
  absl::StrAppend(&text, OptionLine(TargetOption()), OptionLine(HelpOption()));
  return text;
}

// The command whose name is the longest run of first words; erases those words. Null when there is none.
const Command* TakeCommand(const std::vector<Command>& commands, std::vector<std::string>& words) {
  const Command* found = nullptr;
  size_t length = 0;
  for (const Command& command : commands) {
    const std::vector<std::string> parts = absl::StrSplit(command.name, ' ');
    if (parts.size() <= length || parts.size() > words.size() || !std::equal(parts.begin(), parts.end(), words.begin()))
      continue;
    found = &command;
    length = parts.size();
  }
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(length));
  return found;
}

int Fail(const absl::Status& status, const std::string& target = "") {
  const auto detail = GetErrorDetail(status);
  Note(absl::StrCat("sconce: ", status.message(), detail ? absl::StrCat("  [", detail->reason, "]") : ""));
  if (HasReason(status, Reason::ARGUMENT_INVALID)) return 2;
  if (!HasReason(status, Reason::SERVER_UNREACHABLE)) return 1;
  Note(absl::StrCat("no server answers at ", target,
                    ": start one with sconced, or name another with --target or SCONCE_TARGET"));
  return 3;
}

std::string ChosenTarget(const Args& args) {
  if (args.Has("target")) return args.Get("target");
  const char* from_environment = std::getenv("SCONCE_TARGET");
  return from_environment != nullptr && *from_environment != '\0' ? from_environment : kDefaultTarget;
}

int Main(std::vector<std::string> words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    Print(GeneralHelp());
    return words.empty() ? 2 : 0;
  }
  if (words[0] == "--version") {
    Print(absl::StrCat("sconce ", kVersion, "\n"));
    return 0;
  }
  std::string target_before;  // "sconce --target X ls run" is as good as "sconce ls run --target X"
  if (words[0] == "--target" && words.size() > 1) {
    target_before = words[1];
    words.erase(words.begin(), words.begin() + 2);
  } else if (absl::StartsWith(words[0], "--target=")) {
    target_before = words[0].substr(9);
    words.erase(words.begin());
  }
  const std::vector<Command> commands = AllCommands();
  const std::string first = words.empty() ? "" : words[0];
  const Command* command = TakeCommand(commands, words);
  if (command == nullptr) {
    Note(absl::StrCat("sconce: no command \"", first, "\"; see sconce --help"));
    return 2;
  }
  std::vector<Option> options = command->options;
  options.push_back(TargetOption());
  options.push_back(HelpOption());
  const absl::StatusOr<Args> args = ParseArgs(options, words);
  if (!args.ok()) return Fail(args.status());
  if (args->Has("help")) {
    Print(CommandHelp(*command));
    return 0;
  }
  if (args->positional().size() < command->min_words || args->positional().size() > command->max_words) {
    Note(absl::StrCat("sconce: usage: sconce ", command->name, " ", command->usage, " [options]; see sconce ",
                      command->name, " --help"));
    return 2;
  }
  client::ClientOptions client_options;
  client_options.target = args->Has("target") || target_before.empty() ? ChosenTarget(*args) : target_before;
  const std::unique_ptr<client::Client> client = client::Client::Connect(client_options);
  Context context{*args, *client};
  const absl::Status status = command->run(context);
  if (!status.ok()) return Fail(status, client_options.target);
  if (std::fflush(stdout) != 0) return Fail(ErrnoToStatus(errno, "cannot write to standard output"));
  return 0;
}

}  // namespace
}  // namespace sconce::cli

int main(int argc, char** argv) {
  return sconce::cli::Main(std::vector<std::string>(argv + 1, argv + argc));
}
