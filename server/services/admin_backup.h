#ifndef SCONCE_SERVER_SERVICES_ADMIN_BACKUP_H_
#define SCONCE_SERVER_SERVICES_ADMIN_BACKUP_H_

#include "absl/status/status.h"
#include "sconce/v1/admin_service.pb.h"
#include "storage/repository/repository.h"

namespace sconce::services {

// AdminService.Backup; blocks until the copy is durable.
absl::Status TakeBackup(repository::Repository& repository, const v1::BackupRequest& request,
                        v1::BackupResponse& response);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_ADMIN_BACKUP_H_
