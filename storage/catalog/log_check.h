#ifndef SCONCE_STORAGE_CATALOG_LOG_CHECK_H_
#define SCONCE_STORAGE_CATALOG_LOG_CHECK_H_

#include <string>

#include "absl/status/status.h"
#include "base/file_system.h"

namespace sconce::catalog {

// Looks at the logs of a RocksDB that is not open (the write-ahead logs and the manifest) for the one kind of damage
// that its recovery takes for a crash: a record whose length was made larger, so that it seems to reach beyond the end
// of the file. RocksDB drops such a record and all behind it without a word, since a crash in the middle of a write
// leaves the same. They can be told apart: a record that was written whole has its checksum right at some smaller
// length. (docs/adr/0009.) Also: files of a RocksDB without the file CURRENT, which RocksDB would take for an empty
// directory. CATALOG_CORRUPT, IO_ERROR. A directory that is absent or empty is fine.
absl::Status CheckLogs(FileSystem& file_system, const std::string& directory);

// Whether the first `synced_bytes` of a log, which end with a record, are whole records. `name` is for the message.
// CATALOG_CORRUPT, IO_ERROR. RocksDB itself reads a log when it is opened only.
absl::Status CheckSyncedLog(const ReadableFile& log, int64_t synced_bytes, const std::string& name);

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_LOG_CHECK_H_
