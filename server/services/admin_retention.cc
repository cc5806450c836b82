#include "server/services/admin_retention.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "proto/wire/page_token.h"
#include "server/rpc/call.h"
#include "server/services/convert.h"
#include "storage/repository/repository.h"

namespace sconce::services {

absl::Status PreviewRetention(repository::Repository& repository, rpc::CallScope& scope,
                              const v1::PreviewRetentionRequest& request, v1::PreviewRetentionResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(const repository::RunName run, RunFromName(request.run()));
  scope.SetResource(request.run());
  SCONCE_ASSIGN_OR_RETURN(const int64_t page_size, wire::PageSize(request.page_size()));
  SCONCE_ASSIGN_OR_RETURN(const std::string start, wire::DecodePageToken(request));
  std::optional<repository::RetentionRule> rule;
  if (request.has_retention()) {
    SCONCE_ASSIGN_OR_RETURN(rule, FromProto(request.retention()));
  }
  SCONCE_ASSIGN_OR_RETURN(const auto page, repository.PreviewRetention(run, rule, start, page_size));
  for (const repository::RetentionDecision& item : page.items) {
    v1::PreviewRetentionResponse::Decision& decision = *response.add_decisions();
    decision.set_checkpoint(wire::FormatCheckpoint(run.project, run.run, absl::StrCat(item.version)));
    decision.set_deleted(item.deleted);
    decision.set_reason(item.why);
  }
  response.set_next_page_token(wire::EncodePageToken(request, page.next));
  return absl::OkStatus();
}

}  // namespace sconce::services
