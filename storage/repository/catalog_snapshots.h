#ifndef SCONCE_STORAGE_REPOSITORY_CATALOG_SNAPSHOTS_H_
#define SCONCE_STORAGE_REPOSITORY_CATALOG_SNAPSHOTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/store.h"

// Copies of the catalog that stand by for the day it is lost: DATA_DIR/snapshots/{Unix seconds}, each a catalog of its
// own that shares table files with the live one by hard links. From them come what no blob's footer knows: aliases, run
// settings, deployments, and what was changed of a version after its commit.
namespace sconce::repository {

std::string SnapshotPath(const std::string& data_dir, int64_t seconds);

// When each was taken (Unix seconds), the newest first. None when there is no such directory.
absl::StatusOr<std::vector<int64_t>> ListSnapshots(FileSystem& file_system, const std::string& data_dir);

// The stage that takes one an hour after the last, or after the start when there is none yet, and keeps the newest two.
// A snapshot that cannot be taken is logged and tried again in the next pass: it must not keep space from coming back.
class SnapshotTaker {
 public:
  explicit SnapshotTaker(Store& store) : store_(store), start_seconds_(store.NowNanos() / 1'000'000'000) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  absl::Status Take(int64_t seconds);

  Store& store_;
  const int64_t start_seconds_;
  int64_t due_seconds_ = 0;  // 0: not known yet
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CATALOG_SNAPSHOTS_H_
