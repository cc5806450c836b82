#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

std::string Notes(const v1::Checkpoint& checkpoint, const v1::Run& run) {
  std::vector<std::string> notes(checkpoint.aliases().begin(), checkpoint.aliases().end());
  if (checkpoint.version() == run.best_version()) notes.insert(notes.begin(), "best");
  if (checkpoint.version() == run.latest_version()) notes.insert(notes.begin(), "latest");
  if (checkpoint.pinned()) notes.push_back("pinned");
  if (checkpoint.kind() == v1::Checkpoint::OPAQUE) notes.push_back("opaque");
  if (checkpoint.state() == v1::Checkpoint::QUARANTINED) notes.push_back("QUARANTINED");
  return absl::StrJoin(notes, ", ");
}

absl::Status Run(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::ListCheckpointsRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_parent(), FullRunName(context.args.positional()[0]));
  request.set_filter(context.args.Get("filter"));
  request.set_order_by(context.args.Get("order-by"));
  SCONCE_ASSIGN_OR_RETURN(const auto limit, context.args.GetInt("limit"));
  request.set_page_size(limit ? static_cast<int32_t>(std::clamp<int64_t>(*limit, 1, 1000)) : 1000);
  v1::ListCheckpointsResponse all;
  const auto enough = [&] { return limit && all.checkpoints_size() >= *limit; };
  do {
    SCONCE_ASSIGN_OR_RETURN(const v1::ListCheckpointsResponse page, context.client.ListCheckpoints(request));
    all.MergeFrom(page);
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty() && !enough());
  while (limit && all.checkpoints_size() > *limit) all.mutable_checkpoints()->RemoveLast();
  all.clear_next_page_token();
  if (format == OutputFormat::kJson) {
    PrintJson(all);
    return absl::OkStatus();
  }
  if (format == OutputFormat::kName) {
    for (const v1::Checkpoint& checkpoint : all.checkpoints()) Print(absl::StrCat(checkpoint.name(), "\n"));
    return absl::OkStatus();
  }
  v1::GetRunRequest run_request;
  run_request.set_name(request.parent());
  SCONCE_ASSIGN_OR_RETURN(const v1::Run run, context.client.GetRun(run_request));
  Table table({{"VERSION", Align::kRight},
               {"CREATED"},
               {"EPOCH", Align::kRight},
               {"STEP", Align::kRight},
               {"METRICS"},
               {"SIZE", Align::kRight},
               {"STORED", Align::kRight},
               {"NOTES"}});
  const absl::Time now = absl::Now();
  for (const v1::Checkpoint& c : all.checkpoints()) {
    table.AddRow({absl::StrCat(c.version()), HumanAge(ToTime(c.create_time()), now),
                  c.has_epoch() ? absl::StrCat(c.epoch()) : "-", c.has_step() ? absl::StrCat(c.step()) : "-",
                  c.metrics().empty() ? "-" : JoinMetrics(c.metrics()), HumanBytes(c.logical_bytes()),
                  HumanBytes(c.stored_bytes()), Notes(c, run)});
  }
  if (table.empty()) {
    const std::string name = ShortName(request.parent());
    Note(request.filter().empty() && request.order_by().empty()
             ? absl::StrCat("no checkpoints in ", name, " yet; push one with: sconce push FILE ", name)
             : absl::StrCat("no checkpoints in ", name, " are like that"));
  } else {
    Print(table.Render());
  }
  return absl::OkStatus();
}

}  // namespace

Command LsCommand() {
  return {
      "ls",
      "[PROJECT/]RUN",
      "list the versions of a run, newest first",
      "Filters compare version, epoch, step, create_time, metrics.NAME, labels.KEY, state, kind and pinned with = != < "
      "<= > >=, ask for\n"
      "labels:KEY, metrics:NAME or aliases:NAME, and join with AND, OR (which binds tighter), NOT and parentheses:\n"
      "  sconce ls resnet --filter 'metrics.loss < 0.3 AND labels.stage = \"final\"' --order-by metrics.loss -n 5\n"
      "  sconce ls resnet --filter 'step >= 1000 AND (pinned = true OR aliases:prod)' --order-by 'step desc'",
      {{"filter", 0, "FILTER", "show only those"},
       {"order-by", 0, "FIELD", "version, create_time, epoch, step or metrics.NAME; with \" desc\" descending"},
       {"limit", 'n', "N", "show only the first N"},
       OutputOption()},
      1,
      1,
      Run};
}

}  // namespace sconce::cli
