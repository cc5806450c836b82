#ifndef SCONCE_STORAGE_BLOB_BLOB_PATH_H_
#define SCONCE_STORAGE_BLOB_BLOB_PATH_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "storage/blob/blob_store.h"

namespace sconce::blob {

// Every file name of the blob store, under DATA_DIR:
//   blobs/{project uid, 16 hex}/{first 2 hex of the id}/{id, 32 hex}.blob    sealed
//   uploads/{project uid}-{id}.part                                          being written
//   orphans/{unix seconds when moved here}-{project uid}-{id}.blob           sealed, unknown to the catalog
// Hex is lower case and of full width, so a name is parsed only if it is exactly the one that would be made.
class BlobPaths {
 public:
  explicit BlobPaths(absl::string_view data_dir);

  const std::string& DataDir() const { return data_dir_; }
  std::string BlobsDir() const { return data_dir_ + "/blobs"; }
  std::string UploadsDir() const { return data_dir_ + "/uploads"; }
  std::string OrphansDir() const { return data_dir_ + "/orphans"; }
  std::string ProjectDir(uint64_t project_uid) const;
  std::string ShardDir(const BlobId& id) const;
  std::string SealedPath(const BlobId& id) const;
  std::string PartPath(const BlobId& id) const;
  std::string OrphanPath(const BlobId& id, absl::Time moved) const;

 private:
  const std::string data_dir_;
};

// The inverses, over one name without its directory; nullopt for a name the store did not make.
std::optional<uint64_t> ParseProjectDirName(absl::string_view name);
std::optional<BlobId> ParseSealedName(uint64_t project_uid, absl::string_view shard, absl::string_view name);
std::optional<BlobId> ParsePartName(absl::string_view name);
struct Orphan {
  BlobId id;
  absl::Time moved;
};
std::optional<Orphan> ParseOrphanName(absl::string_view name);

// An id never used before: 128 random bits from the kernel.
BlobId RandomBlobId(uint64_t project_uid);

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_BLOB_PATH_H_
