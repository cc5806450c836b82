#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cli/command.h"
#include "client/cli/model_text.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/serving_options.h"

namespace sconce::cli {
namespace {

absl::Status Deploy(Context& context) {
  const Args& args = context.args;
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(args));
  if (!args.Has("module"))
    return MakeError(Reason::ARGUMENT_INVALID, "model deploy needs --module [PROJECT/]RUN@MODULE");
  v1::DeployModelRequest request;
  request.set_model_id(args.positional()[0]);
  v1::Model& model = *request.mutable_model();
  SCONCE_ASSIGN_OR_RETURN(*model.mutable_module(), FullModuleName(args.Get("module")));
  SCONCE_RETURN_IF_ERROR(SetServing(args, model).status());
  request.set_validate_only(args.Has("validate-only"));
  SCONCE_ASSIGN_OR_RETURN(const v1::Model deployed, context.client.DeployModel(request));
  PrintModel(deployed, format);
  if (request.validate_only()) Note("it would be deployed so; nothing was");
  return absl::OkStatus();
}

absl::Status Update(Context& context) {
  const Args& args = context.args;
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(args));
  v1::GetModelRequest get;
  SCONCE_ASSIGN_OR_RETURN(*get.mutable_name(), FullModelName(args.positional()[0]));
  // What is not given stays as it is: the etag sees to it that nobody else's change is undone.
  v1::UpdateModelRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_model(), context.client.GetModel(get));
  if (args.Has("etag")) request.mutable_model()->set_etag(args.Get("etag"));
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> fields, SetServing(args, *request.mutable_model()));
  if (fields.empty()) return MakeError(Reason::ARGUMENT_INVALID, "nothing to change; see sconce model update --help");
  for (const std::string& field : fields) request.mutable_update_mask()->add_paths(field);
  SCONCE_ASSIGN_OR_RETURN(const v1::Model updated, context.client.UpdateModel(request));
  PrintModel(updated, format);
  return absl::OkStatus();
}

absl::Status Rollback(Context& context) {
  const Args& args = context.args;
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(args));
  v1::RollbackModelRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullModelName(args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const auto version, args.GetInt("to"));
  request.set_version(version.value_or(0));
  request.set_etag(args.Get("etag"));
  SCONCE_ASSIGN_OR_RETURN(const v1::Model model, context.client.RollbackModel(request));
  PrintModel(model, format);
  Note(absl::StrCat("pinned to version ", model.pinned_version(), "; to follow again: sconce model update ",
                    ShortName(model.name()), " --follow"));
  return absl::OkStatus();
}

absl::Status Remove(Context& context) {
  v1::UndeployModelRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullModelName(context.args.positional()[0]));
  SCONCE_RETURN_IF_ERROR(context.client.UndeployModel(request));
  Print(absl::StrCat("undeployed ", ShortName(request.name()), "\n"));
  return absl::OkStatus();
}

Option EtagOption() {
  return {"etag", 0, "ETAG", "only if the deployment still has this etag"};
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
      {{"module", 0, "RUN@MODULE", "the module to run: TorchScript, or compiled (.pt2)"}},
      1,
      1,
      Deploy};
  for (Option& option : ServingOptions()) command.options.push_back(std::move(option));
  command.options.push_back({"validate-only", 0, "", "load it and try it, and keep nothing"});
  command.options.push_back(OutputOption());
  return command;
}
Command ModelUpdateCommand() {
  Command command{"model update",
                  "NAME",
                  "change which weights a model serves, or how",
                  "What is not given stays as it is; --strip-prefix, --add-prefix and --rename replace all rules. What "
                  "has to be loaded for it is prepared beside\n"
                  "what serves, and takes over when it is ready: see sconce model show.",
                  ServingOptions(),
                  1,
                  1,
                  Update};
  command.options.push_back(EtagOption());
  command.options.push_back(OutputOption());
  return command;
}
Command ModelRollbackCommand() {
  return {"model rollback",
          "NAME",
          "go back to an earlier version, and stay with it",
          "At once when that version is still loaded, as the one before is with --keep-previous.",
          {{"to", 0, "VERSION", "the version to go back to (default: the one that served before)"},
           EtagOption(),
           OutputOption()},
          1,
          1,
          Rollback};
}
Command ModelRmCommand() {
  return {"model rm", "NAME", "stop serving a model", "", {}, 1, 1, Remove};
}

}  // namespace sconce::cli
