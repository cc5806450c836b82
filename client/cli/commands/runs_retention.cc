#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/cli/all_pages.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/retention_options.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

absl::Status Preview(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::PreviewRetentionRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_run(), FullRunName(context.args.positional()[0]));
  if (HasRetention(context.args)) {
    SCONCE_ASSIGN_OR_RETURN(*request.mutable_retention(), ChosenRetention(context.args));
  }
  SCONCE_ASSIGN_OR_RETURN(const v1::PreviewRetentionResponse all,
                          AllPages(context.client, &client::Client::PreviewRetention, request));
  if (format == OutputFormat::kJson) {
    PrintJson(all);
    return absl::OkStatus();
  }
  Table table({{"VERSION"}, {"WOULD BE"}, {"BECAUSE"}});
  int deleted = 0;
  for (const auto& decision : all.decisions()) {
    deleted += decision.deleted();
    if (format == OutputFormat::kTable) {
      table.AddRow({ShortName(decision.checkpoint()), decision.deleted() ? "deleted" : "kept", decision.reason()});
    } else if (decision.deleted()) {
      Print(absl::StrCat(decision.checkpoint(), "\n"));
    }
  }
  if (format == OutputFormat::kName) return absl::OkStatus();
  if (!table.empty()) Print(table.Render());
  Note(absl::StrCat(deleted, " of ", all.decisions_size(), " versions would be deleted; nothing was"));
  return absl::OkStatus();
}

}  // namespace

Command RunRetentionCommand() {
  std::vector<Option> options = RetentionOptions();
  options.push_back(OutputOption());
  return {
      "runs retention",
      "[PROJECT/]RUN",
      "show which versions a retention policy would delete, and why",
      "Without --keep-... it is the policy of the run, which `sconce runs set` changes. A version stays when any rule "
      "keeps it, and always when it is the newest, best, named by an alias, pinned or deployed. -o name prints those "
      "that would be deleted.",
      options,
      1,
      1,
      Preview};
}

}  // namespace sconce::cli
