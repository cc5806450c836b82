#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "client/cli/command.h"
#include "client/cli/expiry.h"
#include "client/cli/files.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"
#include "client/cli/transfer_options.h"
#include "client/cli/upload_target.h"
#include "proto/wire/resource_name.h"
#include "storage/format/open_checkpoint.h"

namespace sconce::cli {
namespace {

// What became of a push.
struct Pushed {
  std::optional<v1::Checkpoint> checkpoint;    // none while other parts are missing:
  absl::Status missing;                        // that says which
  std::optional<client::UploadReport> report;  // of an upload
};

absl::StatusOr<format::TorchIndex> ParseFile(const wire::SharedBytes& file) {
  if (format::IsTorchScriptArchive(file.bytes)) {
    Note(
        "this is a TorchScript module, stored as its tensors and its code as text; `sconce module push` keeps it a "
        "module");
  }
  absl::StatusOr<format::TorchIndex> parsed = format::IndexCheckpointFile(file.bytes);
  if (HasReason(parsed.status(), Reason::PICKLE_GLOBAL_REFUSED)) {
    return Annotate(parsed.status(), "this file holds more than data");
  }
  return parsed;
}

// Opens the upload of `target`. The upload of an earlier push that is done is not opened again, unless a request id or
// ranks say that it is the same push: the file becomes a version of its own.
absl::StatusOr<v1::Upload> Begin(client::Client& client, const v1::PushHeader& header, const UploadTarget& target) {
  v1::BeginUploadRequest request;
  *request.mutable_header() = header;
  request.set_upload_id(target.upload_id);
  request.set_expected_parts(target.expected_parts);
  SCONCE_ASSIGN_OR_RETURN(v1::Upload upload, client.BeginUpload(request));
  if (upload.checkpoint().empty() || target.shared || !header.request_id().empty()) return upload;
  // An id that the same command finds again as well: from the version that would be the last one before it.
  v1::GetRunRequest get_run;
  get_run.set_name(header.parent());
  SCONCE_ASSIGN_OR_RETURN(const v1::Run run, client.GetRun(get_run));
  request.set_upload_id(absl::StrCat(target.upload_id, "-", run.latest_version()));
  SCONCE_ASSIGN_OR_RETURN(upload, client.BeginUpload(request));
  if (upload.checkpoint().empty()) return upload;
  request.clear_upload_id();  // that version was deleted since
  return client.BeginUpload(request);
}

absl::StatusOr<Pushed> PushUpload(client::Client& client, const v1::Upload& upload, const UploadTarget& target,
                                  const format::Manifest& manifest, const client::PushSource& source,
                                  const client::Progress& progress) {
  Pushed pushed;
  if (upload.checkpoint().empty()) {
    absl::StatusOr<client::UploadReport> report =
        client.UploadPart(upload.name(), target.part, manifest, source, progress);
    if (!report.ok()) {
      if (HasReason(report.status(), Reason::FILE_MALFORMED) && !target.shared) {
        v1::AbortUploadRequest abort;
        abort.set_name(upload.name());
        (void)client.AbortUpload(abort);  // what remains is dropped later all the same
      }
      return report.status();
    }
    pushed.report = *report;
  } else {
    pushed.report.emplace();
    pushed.report->bulk_bytes = pushed.report->reused_bytes = format::BulkBytes(manifest);
  }
  v1::CommitUploadRequest commit;
  commit.set_name(upload.name());
  absl::StatusOr<v1::Checkpoint> checkpoint = client.CommitUpload(commit);
  if (checkpoint.ok()) {
    pushed.checkpoint = *std::move(checkpoint);
  } else if (target.shared && HasReason(checkpoint.status(), Reason::UPLOAD_INCOMPLETE)) {
    pushed.missing = checkpoint.status();
  } else {
    return checkpoint.status();
  }
  return pushed;
}

// Pushes what is in the file: parsed here, so that only the tree and the tensors' bytes travel.
absl::StatusOr<Pushed> PushState(client::Client& client, const v1::PushHeader& header, const UploadTarget& target,
                                 const wire::SharedBytes& file, const client::Progress& progress) {
  SCONCE_ASSIGN_OR_RETURN(format::TorchIndex parsed, ParseFile(file));
  const client::PushSource source{std::move(parsed.records), file.owner};
  const absl::StatusOr<v1::Upload> upload = Begin(client, header, target);
  if (upload.ok()) return PushUpload(client, *upload, target, parsed.manifest, source, progress);
  if (!HasReason(upload.status(), Reason::NOT_IMPLEMENTED) || target.shared) return upload.status();
  Pushed pushed;  // a server of an older release
  SCONCE_ASSIGN_OR_RETURN(pushed.checkpoint, client.PushCheckpoint(header, parsed.manifest, source, progress));
  return pushed;
}

absl::StatusOr<Pushed> PushOpaque(client::Client& client, const v1::PushHeader& header, const wire::SharedBytes& file,
                                  const client::Progress& progress) {
  v1::ImportCheckpointRequest::Header import;
  *import.mutable_push() = header;
  import.set_opaque(true);
  Pushed pushed;
  SCONCE_ASSIGN_OR_RETURN(pushed.checkpoint, client.ImportCheckpoint(import, file, progress));
  return pushed;
}

// "sent 12.0 MiB, 1.2 GiB already stored"
std::string MovedLine(const client::UploadReport& report) {
  std::string line = absl::StrCat("sent ", HumanBytes(report.sent_bytes));
  if (report.reused_bytes > 0) absl::StrAppend(&line, ", ", HumanBytes(report.reused_bytes), " already stored");
  return line;
}

std::string StoredLine(const v1::Checkpoint& checkpoint) {
  std::string line = absl::StrCat("stored ", HumanBytes(checkpoint.stored_bytes()));
  if (checkpoint.deduplicated_bytes() > 0)
    absl::StrAppend(&line, ", ", HumanBytes(checkpoint.deduplicated_bytes()), " were there already");
  return line;
}

void PrintVersion(const Pushed& pushed) {
  const v1::Checkpoint& checkpoint = *pushed.checkpoint;
  std::string line = absl::StrCat(ShortName(checkpoint.name()), "  ", HumanBytes(checkpoint.logical_bytes()));
  if (checkpoint.kind() == v1::Checkpoint::OPAQUE) absl::StrAppend(&line, ", opaque");
  if (checkpoint.tensor_count() > 0) absl::StrAppend(&line, " in ", Grouped(checkpoint.tensor_count()), " tensors");
  if (checkpoint.has_epoch()) absl::StrAppend(&line, ", epoch ", checkpoint.epoch());
  if (checkpoint.has_step()) absl::StrAppend(&line, ", step ", checkpoint.step());
  if (!checkpoint.metrics().empty()) absl::StrAppend(&line, ", ", JoinMetrics(checkpoint.metrics()));
  if (checkpoint.has_expire_time()) absl::StrAppend(&line, ", expires ", FormatUtc(checkpoint.expire_time()));
  Print(absl::StrCat(line, "; ", pushed.report ? MovedLine(*pushed.report) : StoredLine(checkpoint), "\n"));
}

absl::Status Run(Context& context) {
  const std::string& path = context.args.positional()[0];
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  SCONCE_ASSIGN_OR_RETURN(const std::string run, FullRunName(context.args.positional()[1]));
  SCONCE_ASSIGN_OR_RETURN(const v1::PushHeader header, PushHeaderFrom(context.args, run));
  SCONCE_ASSIGN_OR_RETURN(const FileIdentity identity, IdentifyFile(path));
  SCONCE_ASSIGN_OR_RETURN(const UploadTarget target, UploadTargetFrom(context.args, header, identity));
  if (context.args.Has("opaque") && target.shared) {
    return MakeError(Reason::ARGUMENT_INVALID, "an --opaque file has no parts; leave out --part and --upload");
  }
  SCONCE_ASSIGN_OR_RETURN(const wire::SharedBytes file, MapFile(path));
  absl::StatusOr<Pushed> pushed;
  {
    ProgressBar bar(BaseName(path));
    pushed = context.args.Has("opaque") ? PushOpaque(context.client, header, file, bar.AsCallback())
                                        : PushState(context.client, header, target, file, bar.AsCallback());
  }
  if (!pushed.ok()) return Annotate(pushed.status(), absl::StrCat("pushing ", path));
  ExtraNumbers moved;
  if (pushed->report) {
    moved = {{"sentBytes", pushed->report->sent_bytes}, {"reusedBytes", pushed->report->reused_bytes}};
  }
  if (!pushed->checkpoint) {
    wire::RunRef ref;
    SCONCE_ASSIGN_OR_RETURN(ref, wire::ParseRun(run));
    v1::GetUploadRequest get;
    get.set_name(wire::FormatUpload(ref.project, ref.run, target.upload_id));
    SCONCE_ASSIGN_OR_RETURN(const v1::Upload upload, context.client.GetUpload(get));
    Note(absl::StrCat("no version yet: ", pushed->missing.message()));
    if (format == OutputFormat::kJson) {
      PrintJson(upload, moved);
    } else if (format == OutputFormat::kName) {
      Print(absl::StrCat(upload.name(), "\n"));
    } else {
      Print(absl::StrCat(ShortName(upload.name()), "  part ", target.part, " of ", target.expected_parts,
                         " is durable; ", MovedLine(*pushed->report), "\n"));
    }
  } else if (format == OutputFormat::kJson) {
    PrintJson(*pushed->checkpoint, moved);
  } else if (format == OutputFormat::kName) {
    Print(absl::StrCat(pushed->checkpoint->name(), "\n"));
  } else {
    PrintVersion(*pushed);
  }
  return absl::OkStatus();
}

}  // namespace

Command PushCommand() {
  Command command{
      "push",
      "FILE [PROJECT/]RUN",
      "store a torch.save or safetensors file as a new version",
      "The file is read here, without executing anything in it; only its tree and those bytes of its tensors "
      "are sent that the project does not\n"
      "have yet. A file that holds more than data (a whole pickled module) is refused, naming its classes: "
      "push state_dict() instead, or store\n"
      "it untouched with --opaque.\n\n"
      "A push that was interrupted, here or at the server, goes on where it stopped when the same command is "
      "given again on the unchanged file.\n"
      "When it was done already, the command makes another version, of which no tensor bytes are sent; with "
      "the same --request-id it answers the\n"
      "version made first.\n\n"
      "Ranks of one job push one checkpoint together: each its own file with --part K/N and the same --upload "
      "ID. The last one done prints the\n"
      "version; the others say that their part is durable, which is a success too.",
      {{"opaque", 0, "", "store the bytes as they are, never decoded"}, OutputOption()},
      2,
      2,
      Run};
  for (Option& option : PushOptions()) command.options.push_back(std::move(option));
  for (Option& option : UploadOptions()) command.options.push_back(std::move(option));
  return command;
}

}  // namespace sconce::cli
