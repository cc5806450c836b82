#ifndef SCONCE_STORAGE_REPOSITORY_REFERENCE_DROPPER_H_
#define SCONCE_STORAGE_REPOSITORY_REFERENCE_DROPPER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/catalog/keys.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The second stage of a pass: from each tombstone the references of the deleted object are dropped, kStep chunks a
// batch. A chunk whose last reference goes loses its record, and the blob it stood in becomes suspect. A chunk that a
// push in progress has pinned keeps record, reference and tombstone. The tombstone goes last, and makes the object's
// own blob suspect.
//
// Only this stage removes chunk records, and passes do not overlap; commits add references under the condition that the
// chunk's record is unchanged, and hold a pin. So a chunk found without references has none until the pin table lets
// somebody have it.
class ReferenceDropper {
 public:
  explicit ReferenceDropper(Store& store) : store_(store) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

  // One batch: drops the owner's references to some chunks. True when every one was dropped: none had to stay for a
  // push.
  absl::StatusOr<bool> Drop(uint64_t project_uid, const catalog::Owner& owner, absl::Span<const Digest> chunks,
                            CollectReport& report);

 private:
  absl::Status DropAll(const std::string& key, const std::string& value, const StopSignal& stop, CollectReport& report);
  // The chunks a deleted object refers to; by a scan of the project's references when its manifest cannot be read.
  absl::StatusOr<std::vector<Digest>> ChunksOf(const catalog::Owner& owner, const records::TombstoneRecord& tombstone);

  Store& store_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_REFERENCE_DROPPER_H_
