#ifndef SCONCE_STORAGE_REPOSITORY_VERIFIER_H_
#define SCONCE_STORAGE_REPOSITORY_VERIFIER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "storage/repository/repository.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Repository::BeginVerify. `store` outlives the result. Every chunk is read once, however many versions share it: the
// work goes blob by blob, then version by version. Memory: 4 MiB, one footer or manifest, and for a run or a version
// the list of its blobs (and chunks).
absl::StatusOr<std::unique_ptr<Verification>> StartVerification(Store& store, const VerifyScope& scope);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_VERIFIER_H_
