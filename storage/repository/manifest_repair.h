#ifndef SCONCE_STORAGE_REPOSITORY_MANIFEST_REPAIR_H_
#define SCONCE_STORAGE_REPOSITORY_MANIFEST_REPAIR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/strings.h"
#include "storage/repository/lookup.h"
#include "storage/repository/quarantine.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Part of a commit: gives a good manifest to every version and module of the project whose own is damaged and is the
// very manifest that the commit brings. Each gets a blob of its own with nothing but a footer, as it had one when it
// was pushed, so that the blobs alone can still say what the catalog says; its old blob loses its owner and goes when
// no chunk in it is needed. What the request that made the object was is not known any more, and not in the new footer.
class ManifestRepair {
 public:
  // `digest` is the SHA-256 of `manifest`; both outlive this.
  ManifestRepair(Store& store, uint64_t project_uid, ByteSpan manifest, const std::string& digest);
  // Removes the blobs that were sealed and not kept.
  ~ManifestRepair();
  ManifestRepair(const ManifestRepair&) = delete;
  ManifestRepair& operator=(const ManifestRepair&) = delete;

  // Seals what is to be restored at this moment, but not the object whose record stands under the key `except`. May be
  // called again, for a batch that is made again. DISK_FULL, IO_ERROR, CATALOG_CORRUPT.
  absl::StatusOr<std::vector<RestoredManifest>> Prepare(const std::string& except);

  // Adds to the batch what the blobs need to be known, and the references that an object lacks of `chunks`, which are
  // those of the manifest; Heal (quarantine.h) adds the rest.
  absl::Status AddTo(const std::vector<RestoredManifest>& restored, const std::vector<Digest>& chunks,
                     catalog::ChangeSet& change);

  // The batch with these was applied, or nobody knows.
  void Keep(const std::vector<RestoredManifest>& restored);

 private:
  struct Damaged;
  absl::StatusOr<std::vector<catalog::Owner>> Quarantined() const;
  absl::Status Find(const catalog::Owner& owner, std::vector<Damaged>& found) const;
  absl::StatusOr<records::ManifestLocation> Seal(const Damaged& damaged);

  Store& store_;
  const uint64_t project_uid_;
  const ByteSpan manifest_;
  const std::string& digest_;
  std::vector<RestoredManifest> sealed_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_MANIFEST_REPAIR_H_
