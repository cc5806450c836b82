#ifndef SCONCE_STORAGE_CATALOG_ROCKSDB_CATALOG_H_
#define SCONCE_STORAGE_CATALOG_ROCKSDB_CATALOG_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/file_system.h"
#include "storage/catalog/catalog.h"

namespace sconce::catalog {

struct RocksDbOptions {
  FileSystem* file_system = &PosixFileSystem();     // under everything RocksDB keeps; outlives the catalog
  int64_t cache_bytes = int64_t{64} << 20;          // blocks, indexes and filters of table files kept in memory
  int64_t write_buffer_bytes = int64_t{16} << 20;   // kept in memory (and the log) before a table file is written
  absl::Duration failure_pause = absl::Seconds(1);  // of a flush or compaction, before it is tried again
  // After a failure, how long RocksDB may take to go on, before the catalog stays read-only until it is opened again.
  absl::Duration resume_timeout = absl::Seconds(60);
  // A change that would leave the disk with less is refused with DISK_FULL. RocksDB must not run into a full disk by
  // itself: writes then fail until much later, and its recovery has been seen to abort the process.
  int64_t min_free_bytes = int64_t{64} << 20;
};

// The catalog in a RocksDB below one directory. Thread-safe. One committer thread applies the changes in the order they
// came, as many per synced write as are waiting; it is also the only one that checks conditions, so no RocksDB
// transaction is needed.
class RocksDbCatalog {
 public:
  // Creates the directory when it is missing, and migrates an older schema (schema_migration.h).
  // DATA_DIR_INCOMPATIBLE for an unknown one, CATALOG_CORRUPT when a record
  // of its log does not check (nothing that was synced is dropped silently), DATA_DIR_LOCKED, DISK_FULL, IO_ERROR. The
  // destructor waits for the changes in progress; snapshots must be gone before.
  static absl::StatusOr<std::unique_ptr<Catalog>> Open(const std::string& path, const RocksDbOptions& options = {});
  // The catalog as it stands, of this build's schema or an earlier one; nothing in the directory is changed. For copies
  // (Catalog::Checkpoint): no other process may have it open for writing.
  static absl::StatusOr<std::unique_ptr<CatalogReader>> OpenReadOnly(const std::string& path,
                                                                     const RocksDbOptions& options = {});
};

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_ROCKSDB_CATALOG_H_
