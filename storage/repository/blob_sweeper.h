#ifndef SCONCE_STORAGE_REPOSITORY_BLOB_SWEEPER_H_
#define SCONCE_STORAGE_REPOSITORY_BLOB_SWEEPER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that looks at the blobs that lost a chunk or their owner: one without a live chunk whose own object is gone
// is forgotten, then unlinked. (A crash in between: the next start finds a blob the catalog does not know, and moves it
// to orphans/.)
class BlobSweeper {
 public:
  explicit BlobSweeper(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  absl::Status Look(const std::string& key, const std::string& value, CollectReport& report);
  absl::StatusOr<bool> IsGarbage(const blob::BlobId& id, const records::BlobRecord& record);
  absl::StatusOr<bool> HoldsLiveChunk(const blob::BlobId& id, const records::ManifestLocation& manifest);

  Store& store_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BLOB_SWEEPER_H_
