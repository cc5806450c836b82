#include "storage/repository/catalog_snapshots.h"

#include <algorithm>
#include <functional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace sconce::repository {
namespace {

constexpr int64_t kEverySeconds = 3600;
constexpr size_t kKept = 2;

std::string SnapshotsDir(const std::string& data_dir) {
  return data_dir + "/snapshots";
}

}  // namespace

std::string SnapshotPath(const std::string& data_dir, int64_t seconds) {
  return absl::StrCat(SnapshotsDir(data_dir), "/", seconds);
}

absl::StatusOr<std::vector<int64_t>> ListSnapshots(FileSystem& file_system, const std::string& data_dir) {
  std::vector<int64_t> snapshots;
  const auto names = file_system.List(SnapshotsDir(data_dir));
  if (IsAbsent(names.status())) return snapshots;
  SCONCE_RETURN_IF_ERROR(names.status());
  for (const std::string& name : *names) {
    int64_t seconds = 0;  // others are copies that were not finished
    if (absl::SimpleAtoi(name, &seconds) && name == absl::StrCat(seconds)) snapshots.push_back(seconds);
  }
  std::sort(snapshots.begin(), snapshots.end(), std::greater<>());
  return snapshots;
}

absl::Status SnapshotTaker::Run(const StopSignal&, CollectReport&) {
  if (!store_.data_dir) return absl::OkStatus();  // a catalog in memory
  const int64_t now = store_.NowNanos() / 1'000'000'000;
  if (due_seconds_ == 0) {
    SCONCE_ASSIGN_OR_RETURN(const std::vector<int64_t> there,
                            ListSnapshots(*store_.options.file_system, store_.options.data_dir));
    due_seconds_ = (there.empty() ? start_seconds_ : there.front()) + kEverySeconds;
  }
  if (now < due_seconds_) return absl::OkStatus();
  if (absl::Status taken = Take(now); !taken.ok()) {
    Log(Severity::kError, "catalog_snapshot_failed", {{"reason", taken.ToString()}});
    return absl::OkStatus();
  }
  due_seconds_ = now + kEverySeconds;
  return absl::OkStatus();
}

absl::Status SnapshotTaker::Take(int64_t seconds) {
  FileSystem& fs = *store_.options.file_system;
  const std::string& data_dir = store_.options.data_dir;
  SCONCE_RETURN_IF_ERROR(fs.CreateDirectories(SnapshotsDir(data_dir)));
  SCONCE_RETURN_IF_ERROR(fs.SyncDirectory(data_dir));
  SCONCE_RETURN_IF_ERROR(store_.catalog->Checkpoint(SnapshotPath(data_dir, seconds)));
  SCONCE_RETURN_IF_ERROR(fs.SyncDirectory(SnapshotsDir(data_dir)));
  SCONCE_ASSIGN_OR_RETURN(const std::vector<int64_t> there, ListSnapshots(fs, data_dir));
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(SnapshotsDir(data_dir)));
  for (const std::string& name : names) {
    const bool kept = std::any_of(there.begin(), there.begin() + std::min(kKept, there.size()),
                                  [&](int64_t at) { return name == absl::StrCat(at); });
    if (!kept) SCONCE_RETURN_IF_ERROR(RemoveTree(fs, absl::StrCat(SnapshotsDir(data_dir), "/", name)));
  }
  Log(Severity::kInfo, "catalog_snapshot", {{"taken", seconds}});
  return absl::OkStatus();
}

}  // namespace sconce::repository
