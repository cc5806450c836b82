#ifndef SCONCE_STORAGE_REPOSITORY_CHANGE_LOG_H_
#define SCONCE_STORAGE_REPOSITORY_CHANGE_LOG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/types.h"

// Reads the change log: every commit, update, deletion, alias move, quarantine and healing, and every move of `best`,
// has an entry in the batch that did it, so no reader sees the one without the other. Revisions are consecutive.
namespace sconce::repository {

enum class ChangeKind {
  kCommitted,
  kUpdated,
  kDeleted,
  kQuarantined,
  kHealed,
  kAliasSet,
  kAliasDeleted,
  kBestMoved,
  kRunDeleted,  // with all that was in it
};

enum class DeletionCause { kRequested, kRetention, kExpired };

struct Change {
  int64_t revision = 0;
  ChangeKind kind = ChangeKind::kCommitted;
  RunName run;
  int64_t version = 0;  // 0: of kRunDeleted, and of kBestMoved when no version has the metric any more
  std::string alias;    // of kAliasSet and kAliasDeleted; "best" of kBestMoved
  absl::Time time;
  DeletionCause cause = DeletionCause::kRequested;  // of kDeleted
  // The version as it is now (without aliases), if it is still there. It may have changed since.
  std::optional<Checkpoint> checkpoint;
};

struct ChangeFilter {
  std::string project;  // "": all
  std::string run;      // "": all of the project
};

struct ChangePage {
  std::vector<Change> changes;
  int64_t next_after = 0;  // everything up to here was looked at: go on after it
  bool more = false;       // there is more to look at now
};

// The changes after revision `after` that the filter takes, oldest first, at most `limit`; a call looks at some hundred
// entries at most, so there may be none and yet `more`. REVISION_NOT_KEPT when the entry after `after` was trimmed, or
// when `after` is newer than anything (the store was restored or rebuilt since); ARGUMENT_INVALID for a negative one.
absl::StatusOr<ChangePage> ReadChangeLog(const catalog::CatalogReader& reader, int64_t after,
                                         const ChangeFilter& filter, int64_t limit);

// The revision of the newest entry; 0 before the first.
absl::StatusOr<int64_t> NewestRevision(const catalog::CatalogReader& reader);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHANGE_LOG_H_
