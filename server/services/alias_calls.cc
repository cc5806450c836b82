// Aliases.
#include <string>

#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "server/services/checkpoint_calls.h"
#include "server/services/convert.h"
#include "server/services/paging.h"

namespace sconce::services {

absl::Status SetAlias(Repository& repository, CallScope& scope, const v1::SetAliasRequest& request, v1::Alias& alias) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, wire::ParseAlias(request.name()));
  SCONCE_RETURN_IF_ERROR(wire::CheckSelector(request.selector()));
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(
      const repository::Alias set,
      repository.SetAlias(ToRunName(ref.run), ref.id, request.selector(), request.etag(), request.must_be_new()));
  alias = ToProto(set);
  return absl::OkStatus();
}

absl::Status GetAlias(Repository& repository, CallScope& scope, const v1::GetAliasRequest& request, v1::Alias& alias) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, wire::ParseAlias(request.name()));
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const repository::Alias found, repository.GetAlias(ToRunName(ref.run), ref.id));
  alias = ToProto(found);
  return absl::OkStatus();
}

absl::Status ListAliases(Repository& repository, CallScope& scope, const v1::ListAliasesRequest& request,
                         v1::ListAliasesResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(const repository::RunName run, RunFromName(request.parent()));
  scope.SetResource(request.parent());
  return FillPage(request, response.mutable_aliases(), response.mutable_next_page_token(),
                  [&](const std::string& start, int64_t limit) { return repository.ListAliases(run, start, limit); });
}

absl::Status DeleteAlias(Repository& repository, CallScope& scope, const v1::DeleteAliasRequest& request,
                         google::protobuf::Empty&) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, wire::ParseAlias(request.name()));
  scope.SetResource(request.name());
  return repository.DeleteAlias(ToRunName(ref.run), ref.id, request.etag());
}

}  // namespace sconce::services
