#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/expiry.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"

namespace sconce::cli {
namespace {

absl::Status Run(Context& context) {
  const Args& args = context.args;
  v1::UpdateCheckpointRequest request;
  v1::Checkpoint& checkpoint = *request.mutable_checkpoint();
  google::protobuf::FieldMask& mask = *request.mutable_update_mask();
  SCONCE_ASSIGN_OR_RETURN(*checkpoint.mutable_name(), FullCheckpointName(args.positional()[0]));
  checkpoint.set_etag(args.Get("etag"));
  for (const std::string& text : args.All("metric")) {
    SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("metric", text));
    double value = 0;
    if (!absl::SimpleAtod(pair.second, &value)) {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("--metric ", pair.first, " takes a number, not ", Quoted(pair.second)));
    }
    (*checkpoint.mutable_metrics())[pair.first] = value;
  }
  for (const std::string& text : args.All("label")) {
    SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("label", text));
    (*checkpoint.mutable_labels())[pair.first] = pair.second;
  }
  if (args.Has("metric")) mask.add_paths("metrics");
  if (args.Has("label")) mask.add_paths("labels");
  if (args.Has("pin") && args.Has("unpin"))
    return MakeError(Reason::ARGUMENT_INVALID, "--pin and --unpin exclude each other");
  if (args.Has("pin") || args.Has("unpin")) mask.add_paths("pinned");
  checkpoint.set_pinned(args.Has("pin"));
  if (args.Has("expire")) {
    SCONCE_ASSIGN_OR_RETURN(const Expiry expiry, ParseExpiry(args.Get("expire"), absl::Now()));
    mask.add_paths("expire_time");
    if (expiry.time) *checkpoint.mutable_expire_time() = ToTimestamp(*expiry.time);
  }
  if (mask.paths().empty()) return MakeError(Reason::ARGUMENT_INVALID, "nothing to change; see sconce update --help");
  SCONCE_ASSIGN_OR_RETURN(const v1::Checkpoint updated, context.client.UpdateCheckpoint(request));
  Print(absl::StrCat(ShortName(updated.name()), updated.metrics().empty() ? "" : "  ", JoinMetrics(updated.metrics()),
                     updated.pinned() ? "  pinned" : "",
                     updated.has_expire_time() ? absl::StrCat("  expires ", FormatUtc(updated.expire_time())) : "",
                     updated.labels().empty() ? "" : "  ", JoinPairs(updated.labels()), "\n"));
  return absl::OkStatus();
}

}  // namespace

Command UpdateCommand() {
  return {"update",
          "[PROJECT/]RUN@SELECTOR",
          "add metrics to a version, set its labels, pin it, let it expire",
          "Validation often comes after the push: add its metric here, and best moves in the same step. The content "
          "never changes.",
          {{"metric", 0, "NAME=VALUE", "add a metric; repeatable", true},
           {"label", 0, "KEY=VALUE", "replace the labels; repeatable", true},
           {"pin", 0, "", "never delete it automatically"},
           {"unpin", 0, "", "undo --pin"},
           {"expire", 0, "TIME|DURATION|never",
            "delete it then, unless it is protected: 2027-01-31T12:00:00Z, or from now: 36h, 14d (to the full unit)"},
           {"etag", 0, "ETAG", "only if the version still has this etag"}},
          1,
          1,
          Run};
}

}  // namespace sconce::cli
