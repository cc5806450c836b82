#ifndef SCONCE_STORAGE_REPOSITORY_STORED_OBJECT_H_
#define SCONCE_STORAGE_REPOSITORY_STORED_OBJECT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/repository.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The manifest behind a record, its bytes checked against the digest. CHUNK_CORRUPT, IO_ERROR.
struct StoredManifest {
  std::shared_ptr<const blob::Blob> blob;
  ByteSpan bytes;  // in the blob
  format::Manifest manifest;
};
absl::StatusOr<StoredManifest> ReadManifest(Store& store, uint64_t project_uid,
                                            const records::ManifestLocation& location);

// Repository::OpenRead and OpenReadModule.
absl::StatusOr<std::shared_ptr<const OpenCheckpoint>> OpenStoredCheckpoint(const std::shared_ptr<Store>& store,
                                                                           const CheckpointRef& ref);
absl::StatusOr<std::shared_ptr<const OpenModule>> OpenStoredModule(const std::shared_ptr<Store>& store,
                                                                   const RunName& run, const std::string& module);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_STORED_OBJECT_H_
