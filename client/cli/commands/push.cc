#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cli/command.h"
#include "client/cli/files.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"
#include "client/cli/transfer_options.h"
#include "storage/format/open_checkpoint.h"

namespace sconce::cli {
namespace {

// Pushes what is in the file: parsed here, so that only the tree and the tensors' bytes travel.
absl::StatusOr<v1::Checkpoint> PushState(client::Client& client, const v1::PushHeader& header,
                                         const wire::SharedBytes& file, const client::Progress& progress) {
  if (format::IsTorchScriptArchive(file.bytes)) {
    Note(
        "this is a TorchScript module, stored as its tensors and its code as text; `sconce module push` keeps it a "
        "module");
  }
  absl::StatusOr<format::TorchIndex> parsed = format::IndexCheckpointFile(file.bytes);
  if (HasReason(parsed.status(), Reason::PICKLE_GLOBAL_REFUSED)) {
    return Annotate(parsed.status(), "this file holds more than data");
  }
  if (!parsed.ok()) return parsed.status();
  return client.PushCheckpoint(header, parsed->manifest, {std::move(parsed->records), file.owner}, progress);
}

absl::Status Run(Context& context) {
  const std::string& path = context.args.positional()[0];
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  SCONCE_ASSIGN_OR_RETURN(const std::string run, FullRunName(context.args.positional()[1]));
  SCONCE_ASSIGN_OR_RETURN(const v1::PushHeader header, PushHeaderFrom(context.args, run));
  SCONCE_ASSIGN_OR_RETURN(const wire::SharedBytes file, MapFile(path));
  absl::StatusOr<v1::Checkpoint> pushed;
  {
    ProgressBar bar(BaseName(path));
    if (context.args.Has("opaque")) {
      v1::ImportCheckpointRequest::Header import;
      *import.mutable_push() = header;
      import.set_opaque(true);
      pushed = context.client.ImportCheckpoint(import, file, bar.AsCallback());
    } else {
      pushed = PushState(context.client, header, file, bar.AsCallback());
    }
  }
  if (!pushed.ok()) return Annotate(pushed.status(), absl::StrCat("pushing ", path));
  if (format == OutputFormat::kJson) {
    PrintJson(*pushed);
  } else if (format == OutputFormat::kName) {
    Print(absl::StrCat(pushed->name(), "\n"));
  } else {
    std::string line = absl::StrCat(ShortName(pushed->name()), "  ", HumanBytes(pushed->logical_bytes()));
    if (pushed->kind() == v1::Checkpoint::OPAQUE) absl::StrAppend(&line, ", opaque");
    if (pushed->tensor_count() > 0) absl::StrAppend(&line, " in ", Grouped(pushed->tensor_count()), " tensors");
    if (pushed->has_epoch()) absl::StrAppend(&line, ", epoch ", pushed->epoch());
    if (pushed->has_step()) absl::StrAppend(&line, ", step ", pushed->step());
    if (!pushed->metrics().empty()) absl::StrAppend(&line, ", ", JoinMetrics(pushed->metrics()));
    absl::StrAppend(&line, "; stored ", HumanBytes(pushed->stored_bytes()));
    if (pushed->deduplicated_bytes() > 0)
      absl::StrAppend(&line, ", ", HumanBytes(pushed->deduplicated_bytes()), " were there already");
    Print(absl::StrCat(line, "\n"));
  }
  return absl::OkStatus();
}

}  // namespace

Command PushCommand() {
  Command command{"push",
                  "FILE [PROJECT/]RUN",
                  "store a torch.save or safetensors file as a new version",
                  "The file is read here, without executing anything in it; only its tree and the bytes of its tensors "
                  "are sent. A file that holds\n"
                  "more than data (a whole pickled module) is refused, naming its classes: push state_dict() instead, "
                  "or store it untouched with --opaque.",
                  {{"opaque", 0, "", "store the bytes as they are, never decoded"}, OutputOption()},
                  2,
                  2,
                  Run};
  for (Option& option : PushOptions()) command.options.push_back(std::move(option));
  return command;
}

}  // namespace sconce::cli
