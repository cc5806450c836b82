#ifndef SCONCE_STORAGE_REPOSITORY_REBUILD_H_
#define SCONCE_STORAGE_REPOSITORY_REBUILD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/repository/repository.h"

// `sconced --rebuild-catalog`: a new catalog for a data directory whose own is lost or damaged.
namespace sconce::repository {

// Things of one kind: how many there were, and what is to be said of the first thousand.
struct RebuildList {
  int64_t count = 0;
  std::vector<std::string> lines;

  void Add(std::string line);
};

struct RebuildReport {
  int64_t projects = 0, runs = 0, versions = 0, modules = 0, aliases = 0, deployments = 0, request_ids = 0;
  int64_t blobs = 0;                  // that have something in use
  int64_t deletions_honoured = 0;     // versions and modules with a footer that stay deleted
  int64_t deletion_records_lost = 0;  // damaged: what they named may be among the restored
  int64_t snapshot_seconds = 0;       // when the catalog snapshot that was used was taken; 0: there is none
  RebuildList quarantined;            // restored, but something of them is missing or known to be bad
  RebuildList unsure;                 // restored, but may never have been acknowledged
  RebuildList not_restored;
  std::string kept_as;  // where the old catalog is now; empty: there was none
};

// Makes a new catalog from the blobs' footers, deletions.log and the newest snapshot (see rebuild.cc for the rules),
// and puts it in the place of the old one, which is kept beside it. The data directory must not be in use. Until its
// last step nothing there is changed, and it may be run again after any interruption. DATA_DIR_LOCKED,
// DATA_DIR_INCOMPATIBLE, DISK_FULL, IO_ERROR.
absl::StatusOr<RebuildReport> RebuildCatalog(const RepositoryOptions& options);

// The report as a table and lists, for people.
std::string Describe(const RebuildReport& report);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_REBUILD_H_
