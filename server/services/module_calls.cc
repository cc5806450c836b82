// Modules; their bytes are TransferService's.
#include <string>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "server/services/checkpoint_calls.h"
#include "server/services/convert.h"
#include "server/services/paging.h"

namespace sconce::services {

absl::Status GetModule(Repository& repository, CallScope& scope, const v1::GetModuleRequest& request,
                       v1::Module& module) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, wire::ParseModule(request.name()));
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const repository::Module found, repository.GetModule(ToRunName(ref.run), ref.id));
  module = ToProto(found);
  return absl::OkStatus();
}

absl::Status ListModules(Repository& repository, CallScope& scope, const v1::ListModulesRequest& request,
                         v1::ListModulesResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(const repository::RunName run, RunFromName(request.parent()));
  scope.SetResource(request.parent());
  return FillPage(request, response.mutable_modules(), response.mutable_next_page_token(),
                  [&](const std::string& start, int64_t limit) { return repository.ListModules(run, start, limit); });
}

absl::Status DeleteModule(Repository& repository, CallScope& scope, const v1::DeleteModuleRequest& request,
                          const ModuleUser& module_user) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, wire::ParseModule(request.name()));
  scope.SetResource(request.name());
  const repository::RunName run = ToRunName(ref.run);
  const std::string model = module_user ? module_user(run, ref.id) : "";
  if (!model.empty()) {
    return MakeError(Reason::CHECKPOINT_PROTECTED,
                     absl::StrCat("module ", ref.id, " of run ", run.run, " is run by the deployment ", model,
                                  "; undeploy that first"),
                     {{"module", request.name()}, {"model", wire::FormatModel(model)}});
  }
  return repository.DeleteModule(run, ref.id);
}

}  // namespace sconce::services
