#ifndef SCONCE_BASE_FILE_SYSTEM_H_
#define SCONCE_BASE_FILE_SYSTEM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"

namespace sconce {

// A file being written at explicit offsets. Thread-safe: writes of disjoint ranges may run at once.
class WritableFile {
 public:
  virtual ~WritableFile() = default;  // closes; nothing is promised durable without Sync()
  // Writes all of `data` at `offset`. DISK_FULL or IO_ERROR; after a failure the range holds anything.
  virtual absl::Status WriteAt(int64_t offset, ByteSpan data) = 0;
  virtual absl::Status Truncate(int64_t size_bytes) = 0;
  virtual absl::Status SetMode(uint32_t mode) = 0;
  // Data and size are durable when this returns OK (fdatasync). The directory entry is not: see
  // FileSystem::SyncDirectory.
  virtual absl::Status Sync() = 0;
};

// A file open for reading; stays readable after the name is unlinked. Thread-safe.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  virtual int64_t size_bytes() const = 0;
  // What the file took on the disk when it was opened, in whole pages: holes take nothing.
  virtual int64_t allocated_bytes() const = 0;
  // Fills `out` from `offset`; reading past the end is IO_ERROR.
  virtual absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out) const = 0;
  // The whole file as one shared read-only mapping, made on first use and kept until this object dies. Touching it can
  // raise SIGBUS on a disk error: call Populate on the range first, in a thread that may block.
  virtual absl::StatusOr<ByteSpan> Map() const = 0;
  // Reads the range of the mapping into memory (MADV_POPULATE_READ): a disk error is then an error here, not a signal
  // later.
  virtual absl::Status Populate(int64_t offset, int64_t size_bytes) const = 0;
  // The descriptor, borrowed: for passing to a worker process.
  virtual int fd() const = 0;
};

struct CreateOptions {
  bool direct = false;  // O_DIRECT where the file system allows it: offsets, sizes and buffers are then multiples of
                        // kDirectAlignment
  uint32_t mode = 0640;
};
inline constexpr int64_t kDirectAlignment = 4096;

// The files Sconce keeps. One implementation over POSIX; tests wrap it to drop what was not synced or to fail on
// purpose. Thread-safe. Paths are absolute or relative to the working directory, as given at start.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Creates a file that must not exist.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path,
                                                               const CreateOptions& options) = 0;
  // Opens a file that exists, to go on writing it.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenWrite(const std::string& path) = 0;
  virtual absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenRead(const std::string& path) = 0;
  // For reading what the disk has, past the page cache, where the file system allows that (O_DIRECT). Of the result
  // only size_bytes and ReadAt are for use; offsets, sizes and buffers are multiples of kDirectAlignment. A file system
  // that does not know better reads as OpenRead does.
  virtual absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenDirect(const std::string& path) {
    return OpenRead(path);
  }
  // A second name for the same bytes; `to` must not exist. IsOtherDevice when the two lie on different file systems.
  virtual absl::Status Link(const std::string& from, const std::string& to) = 0;
  // Atomic; replaces a file `to`. A directory may be renamed too, when nothing is called `to`. Durable after
  // SyncDirectory of both directories.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // OK if already absent.
  virtual absl::Status Remove(const std::string& path) = 0;
  // Makes the directory and its missing parents; OK if it exists.
  virtual absl::Status CreateDirectories(const std::string& path) = 0;
  // Removes an empty directory; OK if already absent.
  virtual absl::Status RemoveDirectory(const std::string& path) = 0;
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  // Names (not paths) in the directory, sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual absl::StatusOr<int64_t> FreeBytes(const std::string& path) = 0;
};

// The status says that the file or directory does not exist (and not that it could not be reached).
bool IsAbsent(const absl::Status& status);

// The status says that the two names lie on different file systems.
bool IsOtherDevice(const absl::Status& status);

// Removes the directory with all in it; OK if it is absent. Not atomic: a crash may leave some of it.
absl::Status RemoveTree(FileSystem& file_system, const std::string& path);

// The one over POSIX calls; lives for ever.
FileSystem& PosixFileSystem();

}  // namespace sconce

#endif  // SCONCE_BASE_FILE_SYSTEM_H_
