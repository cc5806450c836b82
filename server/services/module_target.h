#ifndef SCONCE_SERVER_SERVICES_MODULE_TARGET_H_
#define SCONCE_SERVER_SERVICES_MODULE_TARGET_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/format/load_plan.h"
#include "storage/repository/repository.h"

namespace sconce::services {

// The parameters and buffers of a stored module, named `projects/{project}/runs/{run}/modules/{module}`. A large
// archive is put into a spool file meanwhile, so memory stays small. NAME_INVALID, RUN_NOT_FOUND, MODULE_NOT_FOUND,
// MODULE_INVALID, CHUNK_CORRUPT, DISK_FULL.
absl::StatusOr<format::LoadTarget> ReadModuleTarget(repository::Repository& repository, absl::string_view name);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_MODULE_TARGET_H_
