#ifndef SCONCE_STORAGE_REPOSITORY_OBJECT_CHECK_H_
#define SCONCE_STORAGE_REPOSITORY_OBJECT_CHECK_H_

#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Whether the catalog's records of one version or module agree with its manifest, at one state of the catalog: each of
// its chunks has a reference, and a record that says the same of its size and XXH3, in a blob the catalog knows. A
// reference that is missing is put back; anything else that is wrong is damage and quarantined. What the blobs hold is
// BlobCheck's. `owner` may be gone: that is no damage. The value: whether it is quarantined, now or before; nullopt
// when it is gone.
absl::StatusOr<std::optional<bool>> CheckObject(Store& store, uint64_t project_uid, const catalog::Owner& owner);

// The blob with the owner's manifest; nullopt when the owner is gone. Before, visits the chunks the manifest names,
// once each, and where they should stand, as far as the catalog knows; none when the manifest cannot be read.
absl::StatusOr<std::optional<blob::BlobId>> VisitChunks(
    Store& store, uint64_t project_uid, const catalog::Owner& owner,
    absl::FunctionRef<void(const Digest& chunk, const records::ChunkRecord& record)> visit);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_OBJECT_CHECK_H_
