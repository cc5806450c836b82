#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

// A run or version as it is written everywhere, or `projects/P`.
absl::StatusOr<std::string> ScopeName(const std::string& text) {
  if (absl::StartsWith(text, "projects/")) return text;
  return text.find('@') == std::string::npos ? FullRunName(text) : FullCheckpointName(text);
}

// What was found, for a person.
std::string Report(const v1::VerifyResponse& result) {
  std::string text = absl::StrCat(HumanBytes(result.verified_bytes()), " in ", Grouped(result.blob_count()), " blobs, ",
                                  Grouped(result.chunk_count()), " chunks compared: ");
  if (result.quarantined().empty() && result.damaged_footer_count() == 0) return absl::StrCat(text, "all is well\n");
  absl::StrAppend(&text, Grouped(result.quarantined_size()), " versions are damaged\n");
  std::vector<std::string> names;
  for (const std::string& name : result.quarantined()) names.push_back(ShortName(name));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) absl::StrAppend(&text, "  ", name, "\n");
  if (result.damaged_footer_count() > 0) {
    absl::StrAppend(&text, Grouped(result.damaged_footer_count()),
                    " blobs have a damaged footer: they serve, but a lost catalog could not be rebuilt from them\n");
  }
  return text;
}

absl::Status Verify(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::VerifyRequest request;
  if (!context.args.positional().empty()) {
    SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), ScopeName(context.args.positional()[0]));
  }
  v1::VerifyResponse result;
  {
    ProgressBar bar("verifying");
    SCONCE_ASSIGN_OR_RETURN(result, context.client.Verify(request, bar.AsCallback()));
  }
  if (format == OutputFormat::kJson) {
    PrintJson(result);
  } else if (format == OutputFormat::kName) {
    for (const std::string& name : result.quarantined()) Print(absl::StrCat(name, "\n"));
  } else {
    Print(Report(result));
  }
  if (result.quarantined().empty() && result.damaged_footer_count() == 0) return absl::OkStatus();
  return MakeError(
      Reason::CHUNK_CORRUPT,
      "damage was found; push the same checkpoints again to heal them, or put the files back from a backup "
      "and verify again");
}

}  // namespace

Command AdminVerifyCommand() {
  return {"admin verify",
          "[[PROJECT/]RUN[@SELECTOR] | projects/PROJECT]",
          "compare what is stored with its digests",
          "Reads every byte from the disk: of a version, a run, a project, or (without a name) of everything. What is "
          "damaged is quarantined; what was\n"
          "quarantined but is right again is healed. Exit status 1 when anything is damaged.",
          {OutputOption()},
          0,
          1,
          Verify};
}

}  // namespace sconce::cli
