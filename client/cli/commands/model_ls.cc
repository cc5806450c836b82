#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "client/cli/all_pages.h"
#include "client/cli/command.h"
#include "client/cli/model_text.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

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

std::string SpecText(const v1::TensorSpec& spec) {
  return absl::StrCat(spec.name(), "=", spec.datatype(), "[", absl::StrJoin(spec.shape(), ","), "]");
}

std::string BatchingText(const v1::Batching& batching) {
  if (batching.max_batch_size() == 0) return "none";
  const absl::Duration delay =
      absl::Seconds(batching.max_queue_delay().seconds()) + absl::Nanoseconds(batching.max_queue_delay().nanos());
  return absl::StrCat("up to ", batching.max_batch_size(), ", waiting ", absl::FormatDuration(delay));
}

// What was asked for, a line each; what was not has none.
std::string SettingsText(const v1::Model& model) {
  std::string text;
  const auto line = [&text](const char* what, const std::string& value) {
    if (!value.empty()) absl::StrAppend(&text, what, ": ", value, "\n");
  };
  line("module", ShortName(model.module()));
  line("weights", absl::StrCat(WeightsText(model), model.weights().lenient() ? ", lenient" : ""));
  if (model.pinned_version() != 0) line("pinned to", absl::StrCat("version ", model.pinned_version()));
  line("device", model.device());
  if (!model.cast().dtype().empty()) line("cast to", model.cast().dtype());
  line("instances", absl::StrCat(std::max(1, model.instance_count())));
  line("batches", BatchingText(model.batching()));
  for (const v1::TensorSpec& spec : model.inputs()) line("input", SpecText(spec));
  for (const v1::TensorSpec& spec : model.outputs()) line("output", SpecText(spec));
  if (model.has_canary()) {
    line("canary", absl::StrCat(model.canary().checkpoint(), " with ", ShortNumber(model.canary().weight() * 100),
                                " % of the requests"));
  }
  if (model.has_shadow()) line("shadow", model.shadow().checkpoint());
  line("reason", model.reason());
  return text;
}

absl::Status Show(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::GetModelRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullModelName(context.args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const v1::Model model, context.client.GetModel(request));
  if (format != OutputFormat::kTable) {
    PrintModel(model, format);
    return absl::OkStatus();
  }
  const absl::Time now = absl::Now();
  Print(absl::StrCat(ShortName(model.name()), "  ", v1::Model::State_Name(model.state()), ", deployed ",
                     HumanAge(ToTime(model.create_time()), now), "\n", SettingsText(model)));
  Table table({{"VERSION", Align::kRight}, {"ROLE"}, {"STATE"}, {"SINCE"}, {"NOTE"}});
  for (const v1::Model::Version& version : model.versions()) {
    table.AddRow({absl::StrCat(version.version()),
                  version.role() == v1::Model::ROLE_UNSPECIFIED ? "-" : v1::Model::Role_Name(version.role()),
                  v1::Model::State_Name(version.state()), HumanAge(ToTime(version.transition_time()), now),
                  version.reason().empty() ? version.note() : version.reason()});
  }
  if (!table.empty()) Print(absl::StrCat("\n", table.Render()));
  return absl::OkStatus();
}

}  // namespace

Command ModelLsCommand() {
  return {"model ls", "", "list deployments and the versions they serve", "", {OutputOption()}, 0, 0, List};
}
Command ModelShowCommand() {
  return {"model show",
          "NAME",
          "show a deployment: its settings, and the versions that are loaded",
          "",
          {OutputOption()},
          1,
          1,
          Show};
}

}  // namespace sconce::cli
