#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

absl::Status Collect(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::CollectGarbageRequest request;
  request.set_validate_only(context.args.Has("dry-run"));
  SCONCE_ASSIGN_OR_RETURN(const v1::CollectGarbageResponse done, context.client.CollectGarbage(request));
  if (format != OutputFormat::kTable) {
    PrintJson(done);
    return absl::OkStatus();
  }
  Print(absl::StrCat(request.validate_only() ? "would free " : "freed ", HumanBytes(done.freed_bytes()), ": ",
                     Grouped(done.removed_blobs()), " blobs removed, ", Grouped(done.compacted_blobs()),
                     " compacted\n"));
  return absl::OkStatus();
}

}  // namespace

Command AdminGcCommand() {
  return {"admin gc",
          "",
          "take the space of deleted versions back now",
          "The server does this by itself soon after a deletion.",
          {{"dry-run", 'n', "", "only tell what it would free"}, OutputOption()},
          0,
          0,
          Collect};
}

}  // namespace sconce::cli
