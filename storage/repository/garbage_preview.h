#ifndef SCONCE_STORAGE_REPOSITORY_GARBAGE_PREVIEW_H_
#define SCONCE_STORAGE_REPOSITORY_GARBAGE_PREVIEW_H_

#include "absl/status/statusor.h"
#include "storage/repository/repository.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Repository::PreviewGarbage: what a pass of the collector would remove, were nothing pushed meanwhile. Looks at every
// blob record, and opens the blobs whose own version is gone.
absl::StatusOr<CollectReport> PreviewGarbageOf(Store& store);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_GARBAGE_PREVIEW_H_
