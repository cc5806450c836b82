#ifndef SCONCE_STORAGE_REPOSITORY_BLOB_SWEEPER_H_
#define SCONCE_STORAGE_REPOSITORY_BLOB_SWEEPER_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/lookup.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that looks at the blobs that lost a chunk or their owner. One without a live chunk whose own object is gone
// is forgotten, then unlinked. (A crash in between: the next start finds a blob the catalog does not know, and moves it
// to orphans/.) Of one that holds more than is needed it records how much, for the compactor; and of one whose footer
// is damaged, that it has to be written anew.
class BlobSweeper {
 public:
  explicit BlobSweeper(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

  // Whether a look has found something since this was last asked.
  bool TakeChanged();

 private:
  absl::Status Look(const std::string& key, const std::string& value, CollectReport& report);
  // Adds to the batch what follows from the blob's contents; true when nobody needs it.
  absl::StatusOr<bool> Judge(const blob::BlobId& id, const Stored<records::BlobRecord>& record, bool& damaged_footer,
                             catalog::ChangeSet& change);
  // What the blob wastes, or that its footer is to be made anew; nullopt when it stays as it is. `used` says whether
  // its footer is needed, and becomes whether anything of it is.
  absl::StatusOr<std::optional<records::WasteRecord>> Measure(const blob::Blob& blob, const records::BlobRecord& record,
                                                              bool& used, bool& damaged_footer);

  Store& store_;
  bool changed_ = false;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BLOB_SWEEPER_H_
