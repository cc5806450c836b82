#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

int64_t Count(const google::protobuf::RepeatedPtrField<v1::ChunkRange>& ranges) {
  int64_t count = 0;
  for (const v1::ChunkRange& range : ranges) count += range.last() - range.first() + 1;
  return count;
}

absl::Status Show(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::GetUploadRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullUploadName(context.args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const v1::Upload upload, context.client.GetUpload(request));
  if (format == OutputFormat::kJson) {
    PrintJson(upload);
    return absl::OkStatus();
  }
  if (format == OutputFormat::kName) {
    Print(absl::StrCat(upload.name(), "\n"));
    return absl::OkStatus();
  }
  std::string line = ShortName(upload.name());
  if (upload.checkpoint().empty()) {
    absl::StrAppend(&line, "  open, dropped in ",
                    absl::FormatDuration(absl::Trunc(ToTime(upload.expire_time()) - absl::Now(), absl::Minutes(1))),
                    " unless touched");
  } else {
    absl::StrAppend(&line, "  became ", ShortName(upload.checkpoint()));
  }
  Print(absl::StrCat(line, "\n"));
  Table table({{"PART"}, {"MANIFEST"}, {"CHUNKS", Align::kRight}, {"DURABLE", Align::kRight}});
  for (const v1::Upload::Part& part : upload.parts()) {
    table.AddRow({absl::StrCat(part.part(), " of ", upload.expected_parts()),
                  part.manifest_complete() ? "whole" : "missing", Grouped(part.chunk_count()),
                  Grouped(Count(part.durable_chunks()))});
  }
  if (!table.empty()) Print(absl::StrCat("\n", table.Render()));
  return absl::OkStatus();
}

absl::Status Abort(Context& context) {
  v1::AbortUploadRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullUploadName(context.args.positional()[0]));
  SCONCE_RETURN_IF_ERROR(context.client.AbortUpload(request));
  Print(absl::StrCat("aborted upload ", ShortName(request.name()), "\n"));
  return absl::OkStatus();
}

}  // namespace

Command UploadShowCommand() {
  return {"upload show", "[PROJECT/]RUN@UPLOAD", "show what of an upload is durable", "", {OutputOption()}, 1, 1, Show};
}
Command UploadAbortCommand() {
  return {"upload abort",
          "[PROJECT/]RUN@UPLOAD",
          "drop an upload and what it stored",
          "A version that it became stays.",
          {},
          1,
          1,
          Abort};
}

}  // namespace sconce::cli
