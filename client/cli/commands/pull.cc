#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cli/command.h"
#include "client/cli/files.h"
#include "client/cli/output.h"
#include "client/cli/plan_options.h"
#include "client/cli/progress.h"
#include "client/cli/refs.h"
#include "client/cli/transfer_options.h"

namespace sconce::cli {
namespace {

// What was pulled, and what the device mapping and the cast did: to standard error when the file itself goes to
// standard output.
absl::Status Report(const Context& context, const OutputFile& file,
                    const v1::ExportCheckpointResponse::Header& header) {
  const std::string format = context.args.Get("report", "text");
  if (format == "json") {
    PrintJson(header);
    return absl::OkStatus();
  }
  std::string text = absl::StrCat(ShortName(header.checkpoint().name()), " -> ",
                                  file.is_stdout() ? "standard output" : context.args.Get("output"), "  ",
                                  HumanBytes(header.file_bytes()));
  for (const std::string& line : MappedDeviceLines(header.mapped_devices())) absl::StrAppend(&text, "\n  ", line);
  for (const std::string& line : CastDtypeLines(header.cast_dtypes())) absl::StrAppend(&text, "\n  ", line);
  for (const std::string& note : header.notes()) absl::StrAppend(&text, "\n  note: ", note);
  if (file.is_stdout()) {
    Note(text);
  } else {
    Print(absl::StrCat(text, "\n"));
  }
  return absl::OkStatus();
}

// By --format, else by the file's name.
absl::StatusOr<v1::ExportCheckpointRequest::Format> FileFormat(const Args& args) {
  const std::string format = args.Get("format");
  if (format == "pt") return v1::ExportCheckpointRequest::PT;
  if (format == "safetensors") return v1::ExportCheckpointRequest::SAFETENSORS;
  if (args.Has("format")) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("--format takes pt or safetensors, not ", Quoted(format)));
  }
  return absl::EndsWith(args.Get("output"), ".safetensors") ? v1::ExportCheckpointRequest::SAFETENSORS
                                                            : v1::ExportCheckpointRequest::PT;
}

absl::Status Run(Context& context) {
  const Args& args = context.args;
  if (!args.Has("output")) return MakeError(Reason::ARGUMENT_INVALID, "pull needs -o FILE (\"-\" is standard output)");
  const std::string report = args.Get("report", "text");
  if (report != "text" && report != "json")
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("--report takes text or json, not ", Quoted(report)));
  if (report == "json" && args.Get("output") == "-") {
    return MakeError(Reason::ARGUMENT_INVALID, "--report json and -o - both want standard output; name a file");
  }
  v1::ExportCheckpointRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullCheckpointName(args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const v1::ExportCheckpointRequest::Format format, FileFormat(args));
  request.set_format(format);
  *request.mutable_selection() = SelectionFrom(args);
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_device_mapping(), DeviceMappingFrom(args));
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_load_plan(), LoadPlanFrom(args));
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_cast(), CastFrom(args));
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, OutputFile::Create(args.Get("output")));
  absl::StatusOr<v1::ExportCheckpointResponse::Header> header;
  {
    ProgressBar bar(args.positional()[0]);
    header = context.client.ExportCheckpoint(
        request, [&](ByteSpan bytes) { return file->Append(bytes); }, bar.AsCallback());
  }
  if (!header.ok()) return Annotate(header.status(), absl::StrCat("pulling ", args.positional()[0]));
  SCONCE_RETURN_IF_ERROR(file->Commit());
  return Report(context, *file, *header);
}

}  // namespace

Command PullCommand() {
  Command command{
      "pull",
      "[PROJECT/]RUN[@SELECTOR] -o FILE",
      "fetch a version as a file that torch.load or safetensors reads",
      "SELECTOR is a version number, latest (the default), best or an alias. The device mapping is applied on the way "
      "out, so that the file\n"
      "loads on a machine that lacks the devices it was saved on. A broken transfer goes on where it broke.\n\n"
      "With --module or --into only what fits that model comes, under the model's names: a warm start for "
      "load_state_dict(strict=False).\n"
      "--root is then the state_dict; see sconce plan.\n\n"
      "A .safetensors file holds a flat dict of tensors: names are joined by dots, scalars become metadata, and what "
      "it "
      "cannot hold is said.",
      {{"output", 'o', "FILE", "where to; - is standard output"},
       {"format", 0, "pt|safetensors", "kind of file (default: safetensors when FILE ends in .safetensors, else pt)"},
       {"report", 0, "text|json", "how to say what was pulled (default: text)"}},
      1,
      1,
      Run};
  for (Option& option : SelectionOptions()) command.options.push_back(std::move(option));
  for (Option& option : CastOptions()) command.options.push_back(std::move(option));
  for (Option& option : DeviceOptions()) command.options.push_back(std::move(option));
  for (Option& option : LoadPlanOptions()) command.options.push_back(std::move(option));
  return command;
}

}  // namespace sconce::cli
