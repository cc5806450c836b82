#include "base/status_macros.h"
#include "client/cli/command.h"
#include "client/cli/output.h"

namespace sconce::cli {
namespace {

absl::Status Health(Context& context) {
  SCONCE_RETURN_IF_ERROR(context.client.CheckHealth(context.args.Get("service")));
  Print("SERVING\n");
  return absl::OkStatus();
}

}  // namespace

Command HealthCommand() {
  return {"health",
          "",
          "say whether the server is ready; exit status 0 when it is",
          "",
          {{"service", 0, "NAME", "one service instead of the whole server, e.g. inference.GRPCInferenceService"}},
          0,
          0,
          Health};
}

}  // namespace sconce::cli
