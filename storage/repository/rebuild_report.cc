#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "storage/repository/rebuild.h"

namespace sconce::repository {
namespace {

constexpr size_t kListed = 1000;

void Append(const char* title, const RebuildList& list, std::string& out) {
  if (list.count == 0) return;
  absl::StrAppend(&out, "\n", title, "\n");
  for (const std::string& line : list.lines) absl::StrAppend(&out, "  ", line, "\n");
  const int64_t more = list.count - static_cast<int64_t>(list.lines.size());
  if (more > 0) absl::StrAppend(&out, "  and ", more, " more\n");
}

}  // namespace

void RebuildList::Add(std::string line) {
  ++count;
  if (lines.size() < kListed) lines.push_back(std::move(line));
}

std::string Describe(const RebuildReport& report) {
  std::string out;
  const std::pair<const char*, int64_t> rows[] = {{"projects", report.projects},
                                                  {"runs", report.runs},
                                                  {"versions", report.versions},
                                                  {"modules", report.modules},
                                                  {"aliases", report.aliases},
                                                  {"deployments", report.deployments},
                                                  {"request ids", report.request_ids},
                                                  {"blobs in use", report.blobs},
                                                  {"deletions honoured", report.deletions_honoured},
                                                  {"quarantined", report.quarantined.count},
                                                  {"perhaps never acknowledged", report.unsure.count},
                                                  {"not restored", report.not_restored.count}};
  for (const auto& [name, value] : rows) absl::StrAppend(&out, absl::StrFormat("%-28s%12d\n", name, value));
  if (report.snapshot_seconds > 0) {
    absl::StrAppend(
        &out, "\nAliases, run settings and deployments are as of ",
        absl::FormatTime(absl::RFC3339_sec, absl::FromUnixSeconds(report.snapshot_seconds), absl::UTCTimeZone()),
        ", when the newest catalog snapshot was taken.\n");
  } else {
    absl::StrAppend(&out,
                    "\nThere is no catalog snapshot: aliases, run settings, deployments and what was changed of "
                    "versions after their commit are not restored.\n");
  }
  if (report.deletion_records_lost > 0) {
    absl::StrAppend(&out, report.deletion_records_lost,
                    " records of deletions.log are damaged: as many deleted versions may be back.\n");
  }
  Append("Quarantined (push the same content again to heal them):", report.quarantined, out);
  Append("Restored, but perhaps never acknowledged to whoever pushed them:", report.unsure, out);
  Append("Not restored:", report.not_restored, out);
  if (!report.kept_as.empty()) absl::StrAppend(&out, "\nThe old catalog is kept as ", report.kept_as, "\n");
  return out;
}

}  // namespace sconce::repository
