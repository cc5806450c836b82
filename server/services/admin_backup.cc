#include "server/services/admin_backup.h"

#include "base/status_macros.h"

namespace sconce::services {

absl::Status TakeBackup(repository::Repository& repository, const v1::BackupRequest& request,
                        v1::BackupResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(const repository::BackupReport report, repository.Backup(request.directory()));
  response.set_directory(report.directory);
  response.set_revision(report.revision);
  response.set_blob_count(report.blobs);
  response.set_linked_bytes(report.linked_bytes);
  response.set_copied_bytes(report.copied_bytes);
  response.set_missing_blob_count(report.missing_blobs);
  return absl::OkStatus();
}

}  // namespace sconce::services
