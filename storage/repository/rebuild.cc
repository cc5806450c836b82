// A new catalog takes the place of the old one like this:
//
//   1. The data directory is locked. What an earlier attempt left in catalog.rebuild is removed.
//   2. The newest snapshot that can be read as a whole is opened; then deletions.log and every blob are read, and the
//   new
//      catalog is written to catalog.rebuild (catalog_rebuilder.h).
//   3. The old catalog/ is renamed to catalog.lost-{Unix seconds}.
//   4. catalog.rebuild is renamed to catalog. The data directory is synced.
//
// After a crash before 3 nothing has changed. Between 3 and 4 there is no catalog: a start refuses to serve and asks
// for a rebuild (Repository::Open), and that begins anew. Nothing is ever removed but what a rebuild made itself.
#include "storage/repository/rebuild.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/blob/local_blob_store.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "storage/repository/catalog_rebuilder.h"
#include "storage/repository/catalog_snapshots.h"
#include "storage/repository/data_dir.h"
#include "storage/repository/deletion_log.h"

namespace sconce::repository {
namespace {

// The newest that can be read from end to end; null when there is none.
absl::StatusOr<std::unique_ptr<catalog::CatalogReader>> NewestSnapshot(FileSystem& fs, const std::string& data_dir,
                                                                       int64_t& seconds) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<int64_t> snapshots, ListSnapshots(fs, data_dir));
  for (const int64_t at : snapshots) {
    catalog::RocksDbOptions options;
    options.file_system = &fs;
    auto snapshot = catalog::RocksDbCatalog::OpenReadOnly(SnapshotPath(data_dir, at), options);
    absl::Status read = snapshot.status();
    if (read.ok()) read = (*snapshot)->Scan("", "", false, [](absl::string_view, absl::string_view) { return true; });
    if (read.ok()) {
      seconds = at;
      return snapshot;
    }
    Log(Severity::kError, "catalog_snapshot_unreadable", {{"taken", at}, {"reason", read.ToString()}});
  }
  return nullptr;
}

absl::Status CheckThere(FileSystem& fs, const std::string& data_dir) {
  const absl::Status version = fs.OpenRead(data_dir + "/VERSION").status();
  if (!IsAbsent(version)) return version;
  return MakeError(Reason::DATA_DIR_INCOMPATIBLE,
                   absl::StrCat(data_dir,
                                " is not a data directory: it has no VERSION file; give the directory whose "
                                "catalog is to be rebuilt"));
}

// Steps 3 and 4; returns where the old catalog is.
absl::StatusOr<std::string> Swap(FileSystem& fs, const DataDir& dir, const std::string& made, int64_t seconds) {
  std::string aside;
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> old, fs.List(dir.catalog_path()));
  if (old.empty()) {
    SCONCE_RETURN_IF_ERROR(fs.RemoveDirectory(dir.catalog_path()));
  } else {
    do {
      aside = absl::StrCat(dir.catalog_path(), ".lost-", seconds++);
    } while (fs.List(aside).ok());
    SCONCE_RETURN_IF_ERROR(fs.Rename(dir.catalog_path(), aside));
  }
  SCONCE_RETURN_IF_ERROR(fs.Rename(made, dir.catalog_path()));
  SCONCE_RETURN_IF_ERROR(fs.SyncDirectory(dir.path()));
  return aside;
}

}  // namespace

absl::StatusOr<RebuildReport> RebuildCatalog(const RepositoryOptions& options) {
  static const SystemClock* const system_clock = new SystemClock;
  const Clock& clock = options.clock != nullptr ? *options.clock : *system_clock;
  FileSystem& fs = *options.file_system;
  SCONCE_RETURN_IF_ERROR(CheckThere(fs, options.data_dir));
  SCONCE_ASSIGN_OR_RETURN(const DataDir dir, DataDir::Open(options.data_dir, fs));
  const std::string made = dir.catalog_path() + ".rebuild";
  SCONCE_RETURN_IF_ERROR(RemoveTree(fs, made));

  RebuildReport report;
  SCONCE_ASSIGN_OR_RETURN(const auto snapshot, NewestSnapshot(fs, options.data_dir, report.snapshot_seconds));
  SCONCE_ASSIGN_OR_RETURN(const DeletionLogContents deletions, ReadDeletionLog(fs, options.data_dir));
  blob::LocalBlobStoreOptions blob_options;
  blob_options.data_dir = options.data_dir;
  blob_options.file_system = options.file_system;
  SCONCE_ASSIGN_OR_RETURN(const auto blobs, blob::LocalBlobStore::Open(blob_options));
  {
    catalog::RocksDbOptions catalog_options;
    catalog_options.file_system = options.file_system;
    SCONCE_ASSIGN_OR_RETURN(const auto catalog, catalog::RocksDbCatalog::Open(made, catalog_options));
    CatalogRebuilder rebuilder(*catalog, *blobs, snapshot.get(), absl::ToUnixNanos(clock.Now()), report);
    SCONCE_RETURN_IF_ERROR(rebuilder.Run(deletions));
  }
  SCONCE_ASSIGN_OR_RETURN(report.kept_as, Swap(fs, dir, made, absl::ToUnixSeconds(clock.Now())));
  return report;
}

}  // namespace sconce::repository
