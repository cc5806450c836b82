#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

absl::Status Stats(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  SCONCE_ASSIGN_OR_RETURN(const v1::Stats stats, context.client.GetStats({}));
  if (format != OutputFormat::kTable) {
    PrintJson(stats);
    return absl::OkStatus();
  }
  Print(absl::StrCat(Grouped(stats.project_count()), " projects, ", Grouped(stats.run_count()), " runs, ",
                     Grouped(stats.checkpoint_count()), " checkpoints\n", Grouped(stats.blob_count()), " blobs, ",
                     HumanBytes(stats.physical_bytes()), stats.counting_blobs() ? " on disk so far, " : " on disk, ",
                     HumanBytes(stats.free_bytes()), " free\nsconced ", stats.server_version(), ", up ",
                     absl::FormatDuration(absl::Seconds(stats.uptime().seconds())), "\n"));
  return absl::OkStatus();
}

Command Named(const char* name) {
  return {name, "", "show what the server stores", "", {OutputOption()}, 0, 0, Stats};
}

}  // namespace

Command StatsCommand() {
  return Named("stats");
}
Command AdminStatsCommand() {
  return Named("admin stats");
}

}  // namespace sconce::cli
