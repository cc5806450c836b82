#ifndef SCONCE_STORAGE_REPOSITORY_SPOOL_H_
#define SCONCE_STORAGE_REPOSITORY_SPOOL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "storage/repository/repository.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Repository::NewSpool: a file in uploads/. Its name goes when it is mapped or dropped; what a crash leaves there goes
// at the next start.
absl::StatusOr<std::unique_ptr<Spool>> MakeSpool(std::shared_ptr<const Store> store);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_SPOOL_H_
