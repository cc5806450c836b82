#ifndef SCONCE_STORAGE_CATALOG_ROCKSDB_FILE_SYSTEM_H_
#define SCONCE_STORAGE_CATALOG_ROCKSDB_FILE_SYSTEM_H_

#include <rocksdb/env.h>
#include <rocksdb/status.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/file_system.h"
#include "base/mutex.h"

// Sconce's own FileSystem under RocksDB. Production goes through it too, so that what fault tests show is what runs.
namespace sconce::catalog {

// How much of each log is durable, by its path. Thread-safe.
class SyncedLogs {
 public:
  std::map<std::string, int64_t> Get() const;

  // For the files themselves.
  void Add(const std::string& path, std::shared_ptr<const std::atomic<int64_t>> synced_bytes);
  void Remove(const std::string& path);

 private:
  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<const std::atomic<int64_t>>> logs_ ABSL_GUARDED_BY(mu_);
};

// An Env whose files are those of `files`: every byte RocksDB reads or writes, and every name it makes, links, moves,
// removes or syncs. Threads, RocksDB's own LOCK file and modification times are the operating system's. `files`
// outlives it, and it outlives the database.
//
// An error of ours becomes one that RocksDB holds to be passing, a full disk too: RocksDB then stops writing and waits
// to be told to go on (DB::Resume), while by its own judgement it would stay read-only until it is opened again, or
// wait for space in a thread of its own that cannot be told anything. After a failure in the background it pauses for
// `failure_pause`, and Resume with it.
//
// `logs`, if any, learns of the logs that are written.
std::unique_ptr<rocksdb::Env> MakeRocksDbEnv(FileSystem& files, absl::Duration failure_pause,
                                             std::shared_ptr<SyncedLogs> logs = nullptr);

// The status comes from an error that was DISK_FULL in `files`.
bool IsDiskFull(const rocksdb::Status& status);

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_ROCKSDB_FILE_SYSTEM_H_
