#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/lookup.h"
#include "storage/repository/retirement.h"

namespace sconce::repository {

void LocalRepository::StartRetention() {
  store_->retention_started = true;
  collector_.Wake();
}

absl::StatusOr<Page<RetentionDecision>> LocalRepository::PreviewRetention(const RunName& run,
                                                                          const std::optional<RetentionRule>& rule,
                                                                          const std::string& start, int64_t limit) {
  SCONCE_RETURN_IF_ERROR(CheckLimit(limit));
  if (rule) SCONCE_RETURN_IF_ERROR(ValidateRetention(*rule));
  int64_t first = INT64_MAX;
  if (!start.empty() && (!absl::SimpleAtoi(start, &first) || first <= 0)) return BadPageStart(start);
  const auto snapshot = store_->catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const auto found, FindRun(*snapshot, run));
  SCONCE_ASSIGN_OR_RETURN(const RetentionSurvey survey, SurveyRun(*store_, *snapshot, found.record, rule, nullptr));
  SCONCE_ASSIGN_OR_RETURN(const auto aliases, AliasesByVersion(*snapshot, found.record.uid()));
  Page<RetentionDecision> page;
  for (auto verdict = survey.verdicts.rbegin(); verdict != survey.verdicts.rend(); ++verdict) {
    if (verdict->version > first) continue;
    if (static_cast<int64_t>(page.items.size()) == limit) {
      page.next = absl::StrCat(verdict->version);
      break;
    }
    std::string why = DescribeReason(verdict->reason, survey.context.rule);
    if (verdict->reason == RetentionReason::kAlias) {
      why = absl::StrCat("named by alias ", absl::StrJoin(aliases.at(verdict->version), ", "));
    }
    page.items.push_back({verdict->version, verdict->deleted(), std::move(why)});
  }
  return page;
}

}  // namespace sconce::repository
