#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"

namespace sconce::cli {
namespace {

absl::Status Run(Context& context) {
  // The number first, so that what is deleted is what is said, whatever `latest` means a moment later.
  v1::GetCheckpointRequest get;
  SCONCE_ASSIGN_OR_RETURN(*get.mutable_name(), FullCheckpointName(context.args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint, context.client.GetCheckpoint(get));
  v1::DeleteCheckpointRequest request;
  request.set_name(checkpoint.name());
  request.set_force(context.args.Has("force"));
  request.set_validate_only(context.args.Has("dry-run"));
  SCONCE_RETURN_IF_ERROR(context.client.DeleteCheckpoint(request));
  Print(absl::StrCat(request.validate_only() ? "would delete " : "deleted ", ShortName(checkpoint.name()), "\n"));
  return absl::OkStatus();
}

}  // namespace

Command RmCommand() {
  return {"rm",
          "[PROJECT/]RUN@SELECTOR",
          "delete a version",
          "A version that an alias or a pin holds is only deleted with --force, and its aliases with it; one that a "
          "deployment serves never is.",
          {{"force", 'f', "", "delete it although aliases or a pin hold it"},
           {"dry-run", 0, "", "check everything, change nothing"}},
          1,
          1,
          Run};
}

}  // namespace sconce::cli
