#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "google/protobuf/util/json_util.h"

namespace sconce::cli {
namespace {

using Message = v1::WatchCheckpointsResponse;

const char* EventName(const Message& message) {
  switch (message.event()) {
    case Message::COMMITTED:
      return "committed";
    case Message::UPDATED:
      return "updated";
    case Message::DELETED:
      if (message.cause() == Message::RETENTION) return "deleted by retention";
      return message.cause() == Message::EXPIRED ? "expired" : "deleted";
    case Message::QUARANTINED:
      return "quarantined";
    case Message::HEALED:
      return "healed";
    case Message::ALIAS_MOVED:
      return "is now";
    case Message::ALIAS_DELETED:
      return "is no longer";
    case Message::RUN_DELETED:
      return "run deleted";
    default:
      return "changed";
  }
}

// "17  2026-05-01T12:00:00Z  resnet@12  committed  loss=0.25"
std::string Line(const Message& message) {
  const std::string object =
      message.has_checkpoint() ? ShortName(message.checkpoint().name()) : ShortName(message.run());
  std::string line = absl::StrCat(
      message.revision(), "  ", absl::FormatTime(absl::RFC3339_sec, ToTime(message.event_time()), absl::UTCTimeZone()),
      "  ", object, "  ", EventName(message));
  if (!message.alias().empty()) absl::StrAppend(&line, " ", message.alias());
  if (message.event() == Message::ALIAS_MOVED && !message.has_checkpoint()) absl::StrAppend(&line, ": no version");
  if (message.event() == Message::COMMITTED || message.event() == Message::UPDATED) {
    const std::string metrics = JoinMetrics(message.checkpoint().metrics());
    if (!metrics.empty()) absl::StrAppend(&line, "  ", metrics);
  }
  return absl::StrCat(line, "\n");
}

// What "run@selector" asks for: events of that version, or moves of that alias, or (latest) commits.
bool Concerns(const Message& message, const std::string& selector) {
  if (selector.empty()) return true;
  if (selector == "latest") return message.event() == Message::COMMITTED;
  return message.alias() == selector || absl::EndsWith(message.checkpoint().name(), absl::StrCat("/", selector));
}

absl::Status Watch(Context& context) {
  const Args& args = context.args;
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(args));
  SCONCE_ASSIGN_OR_RETURN(const auto after, args.GetInt("after"));
  SCONCE_ASSIGN_OR_RETURN(const auto count, args.GetInt("count"));
  if (count && *count <= 0) return MakeError(Reason::ARGUMENT_INVALID, "--count takes a number from 1");
  const std::string& ref = args.positional()[0];
  const size_t at = ref.rfind('@');
  const std::string selector = at == std::string::npos ? "" : ref.substr(at + 1);
  v1::WatchCheckpointsRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_parent(), FullRunName(ref.substr(0, at)));
  request.set_after_revision(after.value_or(0));
  int64_t seen = 0;
  bool begun = false;
  return context.client.WatchCheckpoints(request, [&](const Message& message) {
    if (message.event() == Message::EVENT_UNSPECIFIED) {
      if (!begun) Note(absl::StrCat("watching ", ShortName(request.parent()), " after revision ", message.revision()));
      begun = true;
      return true;
    }
    if (!Concerns(message, selector)) return true;
    if (format == OutputFormat::kJson) {
      std::string json;
      if (google::protobuf::util::MessageToJsonString(message, &json).ok()) Print(absl::StrCat(json, "\n"));
    } else if (format == OutputFormat::kName) {
      Print(absl::StrCat(message.has_checkpoint() ? message.checkpoint().name() : message.run(), "\n"));
    } else {
      Print(Line(message));
    }
    std::fflush(stdout);  // somebody may be waiting for it at the end of a pipe
    return !count || ++seen < *count;
  });
}

}  // namespace

Command WatchCommand() {
  return {
      "watch",
      "[PROJECT/]RUN[@SELECTOR]",
      "print what happens in a run, a line for each event, until it is stopped",
      "A line begins with its revision: --after goes on behind it, also after a restart of the server. @best (or an "
      "alias) prints its moves only, @latest commits only, @12 what happens to version 12. -o json prints one object "
      "a line. A lost connection is made again.",
      {{"after", 0, "REVISION", "begin after this revision instead of now"},
       {"count", 0, "N", "stop after N events"},
       OutputOption()},
      1,
      1,
      Watch};
}

}  // namespace sconce::cli
