#include "storage/repository/blob_sorter.h"

#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"

namespace sconce::repository {

absl::StatusOr<std::vector<bool>> BlobSorter::AreKnown(absl::Span<const blob::BlobId> blobs) const {
  std::vector<std::string> keys;
  keys.reserve(blobs.size());
  for (const blob::BlobId& id : blobs) keys.push_back(catalog::BlobKey(id.project_uid, id.id));
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::optional<std::string>> records, store_.catalog->MultiGet(keys));
  std::vector<bool> known(blobs.size());
  for (size_t i = 0; i < blobs.size(); ++i) {
    known[i] = records[i].has_value() || store_.upload_blobs_at_start.contains(blobs[i]);
  }
  return known;
}

absl::Status BlobSorter::Run(const StopSignal& stop, const Pace& pace) {
  const blob::KnownBlobs known = [this](absl::Span<const blob::BlobId> blobs) { return AreKnown(blobs); };
  while (!ended_ && !stop.Requested()) {
    const absl::Time begin = absl::Now();
    SCONCE_ASSIGN_OR_RETURN(const blob::SortStep step, store_.blobs->SortSealed(known, kStep));
    moved_ += step.moved;
    if (step.ended) {
      ended_ = true;
      store_.upload_blobs_at_start = {};
      if (moved_ > 0) Log(Severity::kWarn, "orphans_moved", {{"blobs", moved_}});
      return absl::OkStatus();
    }
    if (pace.wait) pace.wait(absl::Now() - begin);
    if (pace.yield && pace.yield()) return absl::OkStatus();
  }
  return absl::OkStatus();
}

}  // namespace sconce::repository
