#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/plan_options.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"
#include "client/cli/transfer_options.h"

namespace sconce::cli {
namespace {

std::string Shape(const google::protobuf::RepeatedField<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string From(const std::string& source_key) {
  return source_key.empty() ? "" : absl::StrCat("from ", source_key);
}

std::string Mismatch(const v1::MismatchedKey& key) {
  if (key.source_dtype().empty()) return "no tensor in the checkpoint";
  return absl::StrCat(Shape(key.source_shape()), " in the checkpoint, ", Shape(key.target_shape()), " in the model");
}

// What needs attention first; what fits is only listed when asked for.
std::string Rows(const v1::PlanLoadResponse& plan, bool all) {
  Table table({{"KEY"}, {"VERDICT"}, {"NOTES"}});
  for (const std::string& key : plan.missing_keys()) table.AddRow({key, "missing", ""});
  for (const std::string& key : plan.unexpected_keys()) table.AddRow({key, "unexpected", ""});
  for (const v1::MismatchedKey& key : plan.mismatched()) {
    const std::string from = From(key.source_key());
    table.AddRow({key.key(), "mismatch", absl::StrCat(Mismatch(key), from.empty() ? "" : "; ", from)});
  }
  for (const std::string& key : plan.defaulted_keys()) table.AddRow({key, "default", "torch starts it at 0"});
  for (const v1::MatchedKey& key : plan.matched()) {
    const bool converts = !key.source_dtype().empty();
    if (!all && !converts) continue;
    std::vector<std::string> notes;
    if (converts) notes.push_back(absl::StrCat(key.source_dtype(), " becomes ", key.target_dtype()));
    if (!key.source_key().empty()) notes.push_back(From(key.source_key()));
    table.AddRow({key.key(), converts ? "converts" : "match", absl::StrJoin(notes, "; ")});
  }
  return table.empty() ? "" : absl::StrCat(table.Render(), "\n");
}

std::string Totals(const v1::PlanLoadResponse::Summary& summary) {
  std::string text = absl::StrCat(Grouped(summary.matched_count()), " of ", Grouped(summary.target_key_count()),
                                  " keys match (", absl::StrFormat("%.1f%%", 100 * summary.match_rate()), "), ",
                                  HumanBytes(summary.transfer_bytes()), " to move");
  const std::pair<int64_t, const char*> counts[] = {{summary.missing_count(), " missing"},
                                                    {summary.unexpected_count(), " unexpected"},
                                                    {summary.mismatched_count(), " mismatched"}};
  for (const auto& [count, what] : counts) {
    if (count != 0) absl::StrAppend(&text, "; ", Grouped(count), what);
  }
  absl::StrAppend(&text, "\n");
  if (summary.error().empty()) {
    absl::StrAppend(&text, "load_state_dict(strict=True) would take it\n");
  } else if (summary.mismatched_count() == 0) {
    absl::StrAppend(&text, "load_state_dict(strict=False) would take it",
                    summary.matched_count() == 0 ? ", and load nothing\n" : "\n");
  } else {
    absl::StrAppend(&text, "load_state_dict would refuse it: sizes differ; a fetch with this plan leaves those out\n");
  }
  if (!summary.hint().empty()) absl::StrAppend(&text, "hint: ", summary.hint(), "\n");
  return text;
}

absl::Status Run(Context& context) {
  const Args& args = context.args;
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(args));
  if (!args.Has("module") && !args.Has("into")) {
    return MakeError(Reason::ARGUMENT_INVALID, "plan needs what to load into: --module RUN@MODULE or --into FILE");
  }
  v1::PlanLoadRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullCheckpointName(args.positional()[0]));
  *request.mutable_selection() = SelectionFrom(args);
  if (args.Has("branch")) {
    if (args.Has("root")) return MakeError(Reason::ARGUMENT_INVALID, "--branch and --root are the same; give one");
    request.mutable_selection()->set_root(args.Get("branch"));
  }
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_plan(), LoadPlanFrom(args));
  request.mutable_plan()->set_strict(args.Has("strict"));
  SCONCE_ASSIGN_OR_RETURN(const v1::PlanLoadResponse plan, context.client.PlanLoad(request));
  if (format == OutputFormat::kJson) {
    PrintJson(plan);
  } else if (format == OutputFormat::kName) {
    for (const v1::MatchedKey& key : plan.matched()) Print(absl::StrCat(key.key(), "\n"));
  } else {
    Print(absl::StrCat(ShortName(plan.summary().checkpoint().name()), " into ",
                       args.Has("module") ? args.Get("module") : args.Get("into"), "\n\n", Rows(plan, args.Has("all")),
                       Totals(plan.summary())));
  }
  return absl::OkStatus();
}

}  // namespace

Command PlanCommand() {
  Command command{
      "plan",
      "[PROJECT/]RUN[@SELECTOR] --module RUN@MODULE | --into FILE",
      "show what of a version would load into a model, before a byte moves",
      "Answers as load_state_dict would: which keys match, which are missing, unexpected or of another shape. A "
      "model's "
      "own state_dict\n"
      "(torch.save(model.state_dict(), FILE)) is what --into takes. pull takes the same options and then fetches "
      "what "
      "matches.\n\n"
      "  sconce plan resnet50@best --branch /model_state_dict --into mine.pt --strip-prefix module. --min-match 0.9",
      {{"branch", 0, "PATH", "the state_dict in the version, e.g. /model_state_dict (default: its root)"},
       {"all", 0, "", "list the keys that match too"},
       {"strict", 0, "", "fail, in torch's words, unless load_state_dict(strict=True) would take it"},
       OutputOption()},
      1,
      1,
      Run};
  for (Option& option : LoadPlanOptions()) command.options.push_back(std::move(option));
  for (Option& option : SelectionOptions()) command.options.push_back(std::move(option));
  return command;
}

}  // namespace sconce::cli
