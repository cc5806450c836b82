#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

absl::Status Backup(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::BackupRequest request;
  request.set_directory(context.args.positional()[0]);
  SCONCE_ASSIGN_OR_RETURN(const v1::BackupResponse taken, context.client.Backup(request));
  if (format == OutputFormat::kJson) {
    PrintJson(taken);
    return absl::OkStatus();
  }
  if (format == OutputFormat::kName) {
    Print(absl::StrCat(taken.directory(), "\n"));
    return absl::OkStatus();
  }
  Print(absl::StrCat("backed up revision ", taken.revision(), " to ", taken.directory(), ": ",
                     Grouped(taken.blob_count()), " blobs, ", HumanBytes(taken.linked_bytes()), " shared, ",
                     HumanBytes(taken.copied_bytes()), " copied\n"));
  if (taken.missing_blob_count() > 0) {
    Print(absl::StrCat("the store lacks ", Grouped(taken.missing_blob_count()),
                       " blobs that its catalog names, and so does the copy\n"));
  }
  return absl::OkStatus();
}

}  // namespace

Command AdminBackupCommand() {
  return {
      "admin backup",
      "DIR",
      "take a consistent copy of the store while it is used",
      "DIR is a new directory on the server's machine, below its --backup-dir. sconced --data-dir runs on it. Where "
      "it is on the same file system, blobs are shared and take no space.",
      {OutputOption()},
      1,
      1,
      Backup};
}

}  // namespace sconce::cli
