#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cli/all_pages.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/plan_options.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

std::string WeightsText(const v1::Model& model) {
  if (model.weights().checkpoint().empty()) return "the module's own";
  return absl::StrCat(ShortName(model.weights().checkpoint()), model.weights().path().empty() ? "" : " ",
                      model.weights().path());
}

std::string VersionsText(const v1::Model& model) {
  std::vector<std::string> versions;
  for (const v1::Model::Version& version : model.versions()) {
    versions.push_back(absl::StrCat(
        version.version(),
        version.state() == v1::Model::READY ? "" : absl::StrCat(" ", v1::Model::State_Name(version.state()))));
  }
  return versions.empty() ? "-" : absl::StrJoin(versions, ", ");
}

absl::Status Deploy(Context& context) {
  const Args& args = context.args;
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(args));
  if (!args.Has("module"))
    return MakeError(Reason::ARGUMENT_INVALID, "model deploy needs --module [PROJECT/]RUN@MODULE");
  for (const char* option : {"path", "lenient", "strip-prefix", "add-prefix", "rename", "min-match"}) {
    if (!args.Has(option) || args.Has("weights")) continue;
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("--", option, " says how the weights are loaded; it needs --weights"));
  }
  v1::DeployModelRequest request;
  request.set_model_id(args.positional()[0]);
  v1::Model& model = *request.mutable_model();
  SCONCE_ASSIGN_OR_RETURN(*model.mutable_module(), FullModuleName(args.Get("module")));
  if (args.Has("weights")) {
    SCONCE_ASSIGN_OR_RETURN(*model.mutable_weights()->mutable_checkpoint(), FullCheckpointName(args.Get("weights")));
    v1::WeightSource& weights = *model.mutable_weights();
    weights.set_path(args.Get("path"));
    weights.set_lenient(args.Has("lenient"));
    SCONCE_ASSIGN_OR_RETURN(v1::KeyRules rules, KeyRulesFrom(args));
    if (rules.ByteSizeLong() != 0) *weights.mutable_rules() = std::move(rules);
    SCONCE_ASSIGN_OR_RETURN(const double min_match, MinMatchFrom(args));
    weights.set_min_match(min_match);
  }
  model.set_device(args.Get("device"));
  SCONCE_ASSIGN_OR_RETURN(const v1::Model deployed, context.client.DeployModel(request));
  if (format == OutputFormat::kJson) {
    PrintJson(deployed);
  } else if (format == OutputFormat::kName) {
    Print(absl::StrCat(deployed.name(), "\n"));
  } else {
    Print(absl::StrCat(ShortName(deployed.name()), "  ", v1::Model::State_Name(deployed.state()), ", version ",
                       VersionsText(deployed), "\n"));
  }
  return absl::OkStatus();
}

absl::Status List(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::ListModelsRequest request;
  SCONCE_ASSIGN_OR_RETURN(const v1::ListModelsResponse all,
                          AllPages(context.client, &client::Client::ListModels, request));
  if (format == OutputFormat::kJson) {
    PrintJson(all);
    return absl::OkStatus();
  }
  Table table({{"MODEL"}, {"STATE"}, {"VERSION"}, {"MODULE"}, {"WEIGHTS"}, {"DEVICE"}, {"REASON"}});
  for (const v1::Model& model : all.models()) {
    if (format == OutputFormat::kName) {
      Print(absl::StrCat(model.name(), "\n"));
    } else {
      table.AddRow({ShortName(model.name()), v1::Model::State_Name(model.state()), VersionsText(model),
                    ShortName(model.module()), WeightsText(model), model.device(), model.reason()});
    }
  }
  if (format == OutputFormat::kName) return absl::OkStatus();
  if (table.empty()) {
    Note("no models are deployed; deploy one with: sconce model deploy NAME --module RUN@MODULE --weights RUN@best");
  } else {
    Print(table.Render());
  }
  return absl::OkStatus();
}

absl::Status Remove(Context& context) {
  v1::UndeployModelRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullModelName(context.args.positional()[0]));
  SCONCE_RETURN_IF_ERROR(context.client.UndeployModel(request));
  Print(absl::StrCat("undeployed ", ShortName(request.name()), "\n"));
  return absl::OkStatus();
}

}  // namespace

Command ModelDeployCommand() {
  Command command{
      "model deploy",
      "NAME --module [PROJECT/]RUN@MODULE",
      "serve a module, with weights from a checkpoint",
      "Waits until the model answers. With --weights RUN@best (or latest, or an alias) the deployment follows it: a "
      "new best is loaded beside the old\n"
      "one and then takes over.",
      {{"module", 0, "RUN@MODULE", "the TorchScript module to run"},
       {"weights", 0, "RUN@SELECTOR", "the checkpoint with the weights (default: the module's own)"},
       {"path", 0, "PATH", "where in that checkpoint the state_dict is, e.g. /model_state_dict (default: its root)"},
       {"device", 0, "DEVICE", "where to run it (default: cpu)"},
       {"lenient", 0, "", "tolerate missing and unexpected keys: what is missing stays as the module has it"},
       OutputOption()},
      1,
      1,
      Deploy};
  for (Option& option : KeyRuleOptions()) command.options.push_back(std::move(option));
  return command;
}
Command ModelLsCommand() {
  return {"model ls", "", "list deployments and the versions they serve", "", {OutputOption()}, 0, 0, List};
}
Command ModelRmCommand() {
  return {"model rm", "NAME", "stop serving a model", "", {}, 1, 1, Remove};
}

}  // namespace sconce::cli
