#ifndef SCONCE_SERVER_SERVICES_MAY_DEPLOY_H_
#define SCONCE_SERVER_SERVICES_MAY_DEPLOY_H_

#include "absl/status/status.h"
#include "server/rpc/call.h"

namespace sconce::services {

// Whether the caller may have a module's code run: asked first by every call that does (DeployModel, UpdateModel,
// RollbackModel, RepositoryModelLoad). There are no roles yet, so everybody may; when there are, this is the one place
// that decides, by `call.principal()`, and answers PERMISSION_DENIED.
inline absl::Status CheckMayDeploy(const rpc::CallScope& call) {
  static_cast<void>(call);
  return absl::OkStatus();
}

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_MAY_DEPLOY_H_
