#ifndef SCONCE_STORAGE_CATALOG_TORN_LOG_H_
#define SCONCE_STORAGE_CATALOG_TORN_LOG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/file_system.h"
#include "base/strings.h"

// What a power cut may leave at the end of RocksDB's write-ahead log, and RocksDB takes for corruption: of a batch that
// was being written, some pages reached the disk and others, before them, did not (those read as zeros). Every batch is
// synced before the next one is written, so the torn one is the last and nobody was told that it was applied.
namespace sconce::catalog {

// Where the torn batch at the end of this log begins; nullopt when the log is whole, or its damage is not of that kind:
// when whole records begin behind it, or when no page or sector of the batch is missing (then its bytes were all
// written, perhaps synced and acknowledged, and have rotted since).
std::optional<int64_t> FindTornBatch(ByteSpan log);

// Cuts the torn batch off the newest log in RocksDB's directory `path`, durably. False when there is none.
// Requires: the database is closed.
absl::StatusOr<bool> DropTornBatch(FileSystem& files, const std::string& path);

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_TORN_LOG_H_
