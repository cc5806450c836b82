#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/all_pages.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/retention_options.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

absl::Status List(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::ListRunsRequest request;
  if (!context.args.positional().empty()) request.set_parent(absl::StrCat("projects/", context.args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const v1::ListRunsResponse all, AllPages(context.client, &client::Client::ListRuns, request));
  if (format == OutputFormat::kJson) {
    PrintJson(all);
    return absl::OkStatus();
  }
  Table table({{"RUN"},
               {"VERSIONS", Align::kRight},
               {"LATEST", Align::kRight},
               {"BEST", Align::kRight},
               {"BEST MEANS"},
               {"UPDATED"},
               {"LABELS"}});
  for (const v1::Run& run : all.runs()) {
    if (format == OutputFormat::kName) {
      Print(absl::StrCat(run.name(), "\n"));
      continue;
    }
    const auto version = [](int64_t v) { return v == 0 ? std::string("-") : absl::StrCat(v); };
    table.AddRow({ShortName(run.name()), absl::StrCat(run.checkpoint_count()), version(run.latest_version()),
                  version(run.best_version()),
                  absl::StrCat(run.best_rule().goal() == v1::BestRule::MAXIMIZE ? "largest " : "smallest ",
                               run.best_rule().metric()),
                  HumanAge(ToTime(run.update_time()), absl::Now()), JoinPairs(run.labels())});
  }
  if (format == OutputFormat::kName) return absl::OkStatus();
  if (table.empty()) {
    Note("no runs yet; the first push makes one: sconce push FILE RUN");
  } else {
    Print(table.Render());
  }
  return absl::OkStatus();
}

absl::Status Set(Context& context) {
  const Args& args = context.args;
  v1::UpdateRunRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_run()->mutable_name(), FullRunName(args.positional()[0]));
  if (args.Has("minimize") && args.Has("maximize"))
    return MakeError(Reason::ARGUMENT_INVALID, "--minimize and --maximize exclude each other");
  if (args.Has("minimize") || args.Has("maximize")) {
    v1::BestRule& rule = *request.mutable_run()->mutable_best_rule();
    rule.set_metric(args.Get("minimize", args.Get("maximize")));
    rule.set_goal(args.Has("minimize") ? v1::BestRule::MINIMIZE : v1::BestRule::MAXIMIZE);
    request.mutable_update_mask()->add_paths("best_rule");
  }
  if (args.Has("label")) {
    for (const std::string& text : args.All("label")) {
      SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("label", text));
      (*request.mutable_run()->mutable_labels())[pair.first] = pair.second;
    }
    request.mutable_update_mask()->add_paths("labels");
  }
  if (HasRetention(args) || args.Has("keep-all")) {
    if (HasRetention(args) && args.Has("keep-all"))
      return MakeError(Reason::ARGUMENT_INVALID, "--keep-all is no rule: it excludes the other --keep options");
    SCONCE_ASSIGN_OR_RETURN(*request.mutable_run()->mutable_retention(), ChosenRetention(args));
    request.mutable_update_mask()->add_paths("retention");
  }
  if (request.update_mask().paths().empty())
    return MakeError(Reason::ARGUMENT_INVALID, "nothing to set; see sconce runs set --help");
  SCONCE_ASSIGN_OR_RETURN(const v1::Run run, context.client.UpdateRun(request));
  Print(absl::StrCat(
      ShortName(run.name()), "  best is the ",
      run.best_rule().goal() == v1::BestRule::MAXIMIZE ? "largest " : "smallest ", run.best_rule().metric(), ": ",
      run.best_version() == 0 ? "no version has it yet" : absl::StrCat("version ", run.best_version()), "\n"));
  return absl::OkStatus();
}

absl::Status Remove(Context& context) {
  v1::DeleteRunRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullRunName(context.args.positional()[0]));
  request.set_force(context.args.Has("force"));
  SCONCE_RETURN_IF_ERROR(context.client.DeleteRun(request));
  Print(absl::StrCat("deleted ", ShortName(request.name()), "\n"));
  return absl::OkStatus();
}

}  // namespace

Command RunsCommand() {
  return {"runs", "[PROJECT]", "list runs, of one project or of all", "", {OutputOption()}, 0, 1, List};
}

Command RunSetCommand() {
  std::vector<Option> options = {{"minimize", 0, "METRIC", "best is the smallest METRIC"},
                                 {"maximize", 0, "METRIC", "best is the largest METRIC"},
                                 {"label", 0, "KEY=VALUE", "replace the labels; repeatable", true}};
  for (Option& option : RetentionOptions()) options.push_back(std::move(option));
  options.push_back({"keep-all", 0, "", "no retention rules any more"});
  return {
      "runs set",
      "[PROJECT/]RUN",
      "set what best means in a run, what to keep, or its labels",
      "The --keep options given together become the retention policy: a version stays when any of them keeps it. It "
      "takes effect with the next push to the run, or within the hour; see what it would do with `sconce runs "
      "retention`.",
      options,
      1,
      1,
      Set};
}

Command RunRmCommand() {
  return {"runs rm", "[PROJECT/]RUN", "delete a run", "", {{"force", 'f', "", "and all that is in it"}}, 1, 1, Remove};
}

}  // namespace sconce::cli
