#ifndef SCONCE_SERVER_SERVICES_ADMIN_RETENTION_H_
#define SCONCE_SERVER_SERVICES_ADMIN_RETENTION_H_

#include "absl/status/status.h"
#include "sconce/v1/admin_service.pb.h"

namespace sconce::repository {
class Repository;
}
namespace sconce::rpc {
class CallScope;
}

namespace sconce::services {

// AdminService.PreviewRetention.
absl::Status PreviewRetention(repository::Repository& repository, rpc::CallScope& scope,
                              const v1::PreviewRetentionRequest& request, v1::PreviewRetentionResponse& response);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_ADMIN_RETENTION_H_
