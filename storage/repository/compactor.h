#ifndef SCONCE_STORAGE_REPOSITORY_COMPACTOR_H_
#define SCONCE_STORAGE_REPOSITORY_COMPACTOR_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/byte_rate.h"
#include "storage/blob/aligned_buffer.h"
#include "storage/blob/footer.h"
#include "storage/repository/blob_contents.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/compaction_policy.h"
#include "storage/repository/lookup.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that gives back the space that dead chunks take in blobs that are still needed: it copies what is needed
// into a new blob and drops the old one. The protocol is at the top of compactor.cc; what is worth it is decided by
// compaction_policy.h. Used by one pass at a time.
class Compactor {
 public:
  explicit Compactor(Store& store)
      : store_(store), rate_(store.options.compact_bytes_per_second, *store.options.clock) {}

  // Something may be wasted that was not, so that a run makes sense.
  void SetChanged() { changed_ = true; }
  // Does nothing when no run makes sense. A full disk postpones the rest and is no error.
  absl::Status Run(const StopSignal& stop, const Pace& pace, CollectReport& report);

 private:
  struct Source;
  struct Moved;
  struct Target;

  absl::StatusOr<std::vector<WastefulBlob>> ReadWaste();
  absl::Status Compact(const CompactionGroup& group, const StopSignal& stop, const Pace& pace, CollectReport& report);
  absl::StatusOr<std::optional<Source>> OpenSource(const blob::BlobId& id);
  // False when the source cannot be moved.
  absl::StatusOr<bool> CopyChunks(const Source& source, const StopSignal& stop, const Pace& pace, Target& target);
  absl::StatusOr<bool> Copy(const Source& source, const LiveChunk& chunk, Target& target);
  absl::Status Seal(const std::vector<Source>& sources, Target& target);
  // False when nothing moved after all: the owner is gone, or a chunk was found bad.
  absl::StatusOr<bool> Publish(const std::vector<Source>& sources, const Target& target);
  absl::StatusOr<bool> MoveChunks(const std::vector<Source>& sources, const Target& target, catalog::ChangeSet& change,
                                  int64_t& live_bytes);
  // The blob is not tried again before something about it changes.
  absl::Status LeaveAlone(const blob::BlobId& id);

  Store& store_;
  ByteRate rate_;
  bool changed_ = true;  // an earlier process may have left something
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_COMPACTOR_H_
