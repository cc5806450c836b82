#include "storage/blob/blob_store.h"

#include "base/status_macros.h"

namespace sconce::blob {

absl::StatusOr<int64_t> BlobStore::Recover(const std::function<bool(const BlobId&)>& known,
                                           const std::function<bool(const BlobId&)>& resumable) {
  SCONCE_RETURN_IF_ERROR(DropUnsealed(resumable));
  const auto ask = [&known](absl::Span<const BlobId> blobs) -> absl::StatusOr<std::vector<bool>> {
    std::vector<bool> answers;
    for (const BlobId& id : blobs) answers.push_back(known(id));
    return answers;
  };
  constexpr int64_t kAtOnce = 1000;
  int64_t moved = 0;
  while (true) {
    SCONCE_ASSIGN_OR_RETURN(const SortStep step, SortSealed(ask, kAtOnce));
    if (step.ended) return moved;
    moved += step.moved;
  }
}

absl::StatusOr<int64_t> BlobStore::Recover(const std::function<bool(const BlobId&)>& known) {
  return Recover(known, [](const BlobId&) { return false; });
}

}  // namespace sconce::blob
