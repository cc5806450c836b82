#ifndef SCONCE_STORAGE_REPOSITORY_COMMIT_H_
#define SCONCE_STORAGE_REPOSITORY_COMMIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog/keys.h"
#include "storage/repository/ingest.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

// From a finished Ingest to something visible; the steps are at the top of commit.cc.
namespace sconce::repository {

// Seals the push's blob with its footer. `make_record` gets the place where the manifest will stand and returns what
// goes into the footer as the object's record. After an error the blob does not exist.
absl::StatusOr<records::ManifestLocation> SealObject(
    Ingest& ingest, const std::string& manifest,
    absl::FunctionRef<records::FooterRecord(const records::ManifestLocation&)> make_record);

// Makes the sealed object visible in one batch: its references, its new chunks, its blob, and what `finish` adds (its
// own record and what goes with it). `finish` runs once per attempt, on the newest state; it returns false when nothing
// is to be committed after all (a retried request), and then, as after an error, the blob is removed and nothing is
// visible. (When the catalog cannot say whether its last write will survive, the blob stays until the next start
// decides.)
absl::StatusOr<bool> CommitObject(Store& store, Ingest& ingest, uint64_t project_uid, const catalog::Owner& owner,
                                  const records::ManifestLocation& manifest,
                                  absl::FunctionRef<absl::StatusOr<bool>(catalog::ChangeSet&)> finish);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_COMMIT_H_
