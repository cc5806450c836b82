#ifndef SCONCE_STORAGE_REPOSITORY_BACKUP_H_
#define SCONCE_STORAGE_REPOSITORY_BACKUP_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/repository/repository.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Repository::Backup. The steps are at the top of backup.cc.
absl::StatusOr<BackupReport> TakeBackup(Store& store, const std::string& directory);

// The path that `directory`, as a caller names it, has below `backup_dir`. Relative, or absolute and below it; its
// parent exists and nothing on the way is a symbolic link. BACKUP_DISABLED for an empty `backup_dir`;
// BACKUP_PATH_INVALID says what is wrong; also when something has that name already.
absl::StatusOr<std::string> BackupPath(const std::string& backup_dir, absl::string_view directory);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BACKUP_H_
