#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/expiry.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"
#include "client/cli/transfer_options.h"

namespace sconce::cli {
namespace {

std::string Heading(const v1::Checkpoint& c) {
  std::vector<std::string> facts = {absl::StrCat("committed ", HumanAge(ToTime(c.create_time()), absl::Now()))};
  if (c.has_epoch()) facts.push_back(absl::StrCat("epoch ", c.epoch()));
  if (c.has_step()) facts.push_back(absl::StrCat("step ", c.step()));
  if (!c.metrics().empty()) facts.push_back(JoinMetrics(c.metrics()));
  if (c.parent_version() != 0) facts.push_back(absl::StrCat("parent ", c.parent_version()));
  if (c.pinned()) facts.push_back("pinned");
  if (c.has_expire_time()) facts.push_back(absl::StrCat("expires ", FormatUtc(c.expire_time())));
  if (c.state() == v1::Checkpoint::QUARANTINED) facts.push_back("QUARANTINED: its stored bytes are damaged");
  std::string text = absl::StrCat(ShortName(c.name()), "  ", absl::StrJoin(facts, ", "), "\n");
  if (!c.aliases().empty()) absl::StrAppend(&text, "aliases: ", absl::StrJoin(c.aliases(), ", "), "\n");
  if (!c.labels().empty()) absl::StrAppend(&text, "labels: ", JoinPairs(c.labels()), "\n");
  return text;
}

std::string What(const v1::TreeEntry& entry) {
  if (!entry.value().empty()) return entry.value();
  if (entry.dtype().empty()) return absl::StrCat("(", entry.child_count(), ")");
  return absl::StrCat("[", absl::StrJoin(entry.shape(), ", "), "]");
}

void PrintTable(const v1::DescribeCheckpointResponse& all) {
  Table table({{"PATH"}, {"TYPE"}, {"DTYPE"}, {"SHAPE OR VALUE"}, {"DEVICE"}, {"SIZE", Align::kRight}, {"NOTES"}});
  for (const v1::TreeEntry& entry : all.entries()) {
    std::vector<std::string> notes;
    if (entry.shares_storage()) notes.push_back(absl::StrCat("shares storage ", entry.storage()));
    if (entry.requires_grad()) notes.push_back("requires grad");
    const bool tensor = !entry.dtype().empty();
    table.AddRow({entry.path().empty() ? "/" : entry.path(), entry.type(), entry.dtype(), What(entry), entry.device(),
                  tensor ? HumanBytes(entry.size_bytes()) : "", absl::StrJoin(notes, ", ")});
  }
  Print(table.Render());
  const v1::TreeTotals& totals = all.totals();
  Print(absl::StrCat("\n", Grouped(totals.tensor_count()), " tensors, ", Grouped(totals.element_count()), " elements, ",
                     HumanBytes(totals.tensor_bytes()), "; ", Grouped(totals.storage_count()), " storages, ",
                     HumanBytes(totals.storage_bytes()), "; ", Grouped(totals.scalar_count()), " other values\n"));
  for (const std::string& line : MappedDeviceLines(all.mapped_devices())) Print(absl::StrCat("mapped ", line, "\n"));
}

absl::Status Run(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::GetCheckpointRequest get;
  SCONCE_ASSIGN_OR_RETURN(*get.mutable_name(), FullCheckpointName(context.args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint, context.client.GetCheckpoint(get));
  if (format == OutputFormat::kName) {
    Print(absl::StrCat(checkpoint.name(), "\n"));
    return absl::OkStatus();
  }
  v1::DescribeCheckpointResponse all;
  *all.mutable_checkpoint() = checkpoint;
  if (checkpoint.kind() == v1::Checkpoint::OPAQUE || checkpoint.state() == v1::Checkpoint::QUARANTINED) {
    if (format == OutputFormat::kJson) {
      PrintJson(all);
    } else {
      Print(absl::StrCat(
          Heading(checkpoint), HumanBytes(checkpoint.logical_bytes()),
          checkpoint.kind() == v1::Checkpoint::OPAQUE ? ", opaque: stored as it was pushed, never decoded\n" : "\n"));
    }
    return absl::OkStatus();
  }
  v1::DescribeCheckpointRequest request;
  request.set_name(checkpoint.name());
  *request.mutable_selection() = SelectionFrom(context.args);
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_device_mapping(), DeviceMappingFrom(context.args));
  request.set_page_size(1000);
  do {
    SCONCE_ASSIGN_OR_RETURN(const v1::DescribeCheckpointResponse page, context.client.DescribeCheckpoint(request));
    all.MergeFrom(page);
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  *all.mutable_checkpoint() = checkpoint;
  all.clear_next_page_token();
  if (format == OutputFormat::kJson) {
    PrintJson(all);
  } else {
    Print(absl::StrCat(Heading(checkpoint), "\n"));
    PrintTable(all);
  }
  return absl::OkStatus();
}

}  // namespace

Command ShowCommand() {
  Command command{"show",
                  "[PROJECT/]RUN[@SELECTOR]",
                  "show what is in a version: every tensor's path, dtype, shape, device, size",
                  "",
                  {OutputOption()},
                  1,
                  1,
                  Run};
  for (Option& option : SelectionOptions()) command.options.push_back(std::move(option));
  for (Option& option : DeviceOptions()) command.options.push_back(std::move(option));
  return command;
}

}  // namespace sconce::cli
