#include "storage/catalog/rocksdb_file_system.h"

#include <rocksdb/file_system.h>
#include <rocksdb/system_clock.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/strings.h"

namespace sconce::catalog {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// RocksDB keeps of an error its message and little else. Its own mark for a full disk is not used: it leads to the
// recovery that the header speaks of.
constexpr char kDiskFullMark[] = "[disk full] ";

IOStatus ToIoStatus(const absl::Status& status) {
  if (status.ok()) return IOStatus::OK();
  const std::string message(status.message());
  if (IsAbsent(status)) return IOStatus::PathNotFound(message);
  IOStatus failed = IOStatus::IOError(HasReason(status, Reason::DISK_FULL) ? kDiskFullMark + message : message);
  failed.SetRetryable(true);
  return failed;
}

IOStatus NotUsed(const char* what) {
  return IOStatus::NotSupported(what, "is not asked of this file system by a catalog");
}

// Up to `n` bytes from `offset`: fewer only at the end of the file.
IOStatus ReadUpTo(const ReadableFile& file, uint64_t offset, size_t n, Slice* result, char* scratch) {
  const auto size = static_cast<uint64_t>(file.size_bytes());
  n = static_cast<size_t>(std::min<uint64_t>(n, size - std::min(size, offset)));
  *result = Slice(scratch, n);
  return ToIoStatus(file.ReadAt(static_cast<int64_t>(offset), absl::MakeSpan(reinterpret_cast<uint8_t*>(scratch), n)));
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(std::shared_ptr<const ReadableFile> file) : file_(std::move(file)) {}

  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    IOStatus read = ReadUpTo(*file_, offset_, n, result, scratch);
    if (read.ok()) offset_ += result->size();
    return read;
  }
  IOStatus Skip(uint64_t n) override {
    offset_ += n;
    return IOStatus::OK();
  }

 private:
  const std::shared_ptr<const ReadableFile> file_;
  uint64_t offset_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(std::shared_ptr<const ReadableFile> file) : file_(std::move(file)) {}

  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return ReadUpTo(*file_, offset, n, result, scratch);
  }

 private:
  const std::shared_ptr<const ReadableFile> file_;
};

// Sync does nothing when nothing was written since the last one. So the sync of the log that a checkpoint asks for,
// from another thread and without RocksDB noting its failure, cannot fail between two changes, each of which is synced:
// after such a failure RocksDB 7.8 would refuse every change ("Writer has previous error") and not be brought to
// resume.
class AppendedFile final : public rocksdb::FSWritableFile {
 public:
  AppendedFile(std::unique_ptr<WritableFile> file, const FileOptions& options)
      : FSWritableFile(options), file_(std::move(file)) {}

  using FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    const absl::Status written = file_->WriteAt(size_bytes_, AsBytes(absl::string_view(data.data(), data.size())));
    if (written.ok()) size_bytes_ += static_cast<int64_t>(data.size());
    return ToIoStatus(written);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    const absl::Status truncated = file_->Truncate(static_cast<int64_t>(size));
    if (truncated.ok()) size_bytes_ = static_cast<int64_t>(size);
    *synced_bytes_ = -1;
    return ToIoStatus(truncated);
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    const int64_t written = size_bytes_;
    if (*synced_bytes_ == written) return IOStatus::OK();
    const absl::Status synced = file_->Sync();
    if (synced.ok()) *synced_bytes_ = written;
    return ToIoStatus(synced);
  }
  bool IsSyncThreadSafe() const override { return true; }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    file_.reset();
    return IOStatus::OK();
  }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return static_cast<uint64_t>(size_bytes_); }
  // An empty file needs no Sync: its name is the directory's.
  std::shared_ptr<const std::atomic<int64_t>> synced_bytes() const { return synced_bytes_; }

 private:
  std::unique_ptr<WritableFile> file_;  // until Close
  // Read by Sync while another thread appends.
  std::atomic<int64_t> size_bytes_{0};
  const std::shared_ptr<std::atomic<int64_t>> synced_bytes_ = std::make_shared<std::atomic<int64_t>>(0);
};

class Directory final : public rocksdb::FSDirectory {
 public:
  Directory(FileSystem& files, std::string path) : files_(files), path_(std::move(path)) {}

  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return ToIoStatus(files_.SyncDirectory(path_)); }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  sconce::FileSystem& files_;
  const std::string path_;
};

class RocksDbFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  RocksDbFileSystem(sconce::FileSystem& files, std::shared_ptr<SyncedLogs> logs)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), files_(files), logs_(std::move(logs)) {}
  const char* Name() const override { return "SconceFileSystem"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result, IODebugContext*) override {
    auto file = files_.OpenRead(path);
    if (file.ok()) *result = std::make_unique<SequentialFile>(*std::move(file));
    return ToIoStatus(file.status());
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result, IODebugContext*) override {
    auto file = files_.OpenRead(path);
    if (file.ok()) *result = std::make_unique<RandomAccessFile>(*std::move(file));
    return ToIoStatus(file.status());
  }
  // RocksDB's rule is to empty a file that is there; what a crash left under that name means nothing any more.
  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* result, IODebugContext*) override {
    CreateOptions create;
    create.mode = 0644;  // as RocksDB's own
    auto file = files_.Create(path, create);
    if (!file.ok() && !IsAbsent(files_.OpenRead(path).status())) {
      if (absl::Status removed = files_.Remove(path); !removed.ok()) return ToIoStatus(removed);
      file = files_.Create(path, create);
    }
    if (!file.ok()) return ToIoStatus(file.status());
    auto appended = std::make_unique<AppendedFile>(*std::move(file), options);
    if (logs_ != nullptr && absl::EndsWith(path, ".log")) logs_->Add(path, appended->synced_bytes());
    *result = std::move(appended);
    return IOStatus::OK();
  }
  IOStatus ReopenWritableFile(const std::string&, const FileOptions&, std::unique_ptr<rocksdb::FSWritableFile>*,
                              IODebugContext*) override {
    return NotUsed("ReopenWritableFile");
  }
  IOStatus ReuseWritableFile(const std::string&, const std::string&, const FileOptions&,
                             std::unique_ptr<rocksdb::FSWritableFile>*, IODebugContext*) override {
    return NotUsed("ReuseWritableFile");
  }
  IOStatus NewRandomRWFile(const std::string&, const FileOptions&, std::unique_ptr<rocksdb::FSRandomRWFile>*,
                           IODebugContext*) override {
    return NotUsed("NewRandomRWFile");
  }
  IOStatus NewMemoryMappedFileBuffer(const std::string&, std::unique_ptr<rocksdb::MemoryMappedFileBuffer>*) override {
    return NotUsed("NewMemoryMappedFileBuffer");
  }
  IOStatus Truncate(const std::string&, size_t, const IOOptions&, IODebugContext*) override {
    return NotUsed("Truncate");
  }

  IOStatus NewDirectory(const std::string& path, const IOOptions&, std::unique_ptr<rocksdb::FSDirectory>* result,
                        IODebugContext*) override {
    *result = std::make_unique<Directory>(files_, path);
    return IOStatus::OK();
  }
  IOStatus CreateDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToIoStatus(files_.CreateDirectories(path));
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToIoStatus(files_.CreateDirectories(path));
  }
  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    const absl::Status opened = files_.OpenRead(path).status();
    // No log is ever archived. RocksDB 7.8 ends the process, by an assertion about another status, when it cannot tell
    // whether the folder for that is there.
    if (IsAbsent(opened) || (!opened.ok() && absl::EndsWith(path, "/archive"))) return IOStatus::NotFound();
    return ToIoStatus(opened);
  }
  IOStatus GetChildren(const std::string& path, const IOOptions&, std::vector<std::string>* result,
                       IODebugContext*) override {
    auto names = files_.List(path);
    if (names.ok()) *result = *std::move(names);
    return IsAbsent(names.status()) ? IOStatus::NotFound() : ToIoStatus(names.status());
  }
  IOStatus GetChildrenFileAttributes(const std::string& path, const IOOptions& options,
                                     std::vector<rocksdb::Env::FileAttributes>* result, IODebugContext* dbg) override {
    return rocksdb::FileSystem::GetChildrenFileAttributes(path, options, result, dbg);  // by the two around this
  }
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* size, IODebugContext*) override {
    const auto file = files_.OpenRead(path);
    if (file.ok()) *size = static_cast<uint64_t>((*file)->size_bytes());
    return ToIoStatus(file.status());
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    if (logs_ != nullptr) logs_->Remove(path);
    return ToIoStatus(files_.Remove(path));
  }
  IOStatus DeleteDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToIoStatus(files_.RemoveDirectory(path));
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions&, IODebugContext*) override {
    const absl::Status linked = files_.Link(from, to);
    // What RocksDB's checkpoints copy instead.
    return IsOtherDevice(linked) ? IOStatus::NotSupported(std::string(linked.message())) : ToIoStatus(linked);
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&, IODebugContext*) override {
    return ToIoStatus(files_.Rename(from, to));
  }
  IOStatus GetFreeSpace(const std::string& path, const IOOptions&, uint64_t* free_bytes, IODebugContext*) override {
    const auto free = files_.FreeBytes(path);
    if (free.ok()) *free_bytes = static_cast<uint64_t>(*free);
    return ToIoStatus(free.status());
  }

 private:
  sconce::FileSystem& files_;
  const std::shared_ptr<SyncedLogs> logs_;
};

// RocksDB sleeps through its clock, a second at a time, and only after failures.
class PausingClock final : public rocksdb::SystemClockWrapper {
 public:
  explicit PausingClock(absl::Duration pause)
      : SystemClockWrapper(rocksdb::SystemClock::Default()), pause_us_(absl::ToInt64Microseconds(pause)) {}
  const char* Name() const override { return "SconceClock"; }
  void SleepForMicroseconds(int) override { target_->SleepForMicroseconds(static_cast<int>(pause_us_)); }

 private:
  const int64_t pause_us_;
};

class RocksDbEnv final : public rocksdb::EnvWrapper {
 public:
  RocksDbEnv(FileSystem& files, absl::Duration pause, std::shared_ptr<SyncedLogs> logs)
      : EnvWrapper(rocksdb::NewCompositeEnv(std::make_shared<RocksDbFileSystem>(files, std::move(logs)))) {
    system_clock_ = std::make_shared<PausingClock>(pause);
  }
  const char* Name() const override { return "SconceEnv"; }
};

}  // namespace

std::map<std::string, int64_t> SyncedLogs::Get() const {
  MutexLock lock(&mu_);
  std::map<std::string, int64_t> sizes;
  for (const auto& [path, synced_bytes] : logs_) sizes[path] = *synced_bytes;
  return sizes;
}

void SyncedLogs::Add(const std::string& path, std::shared_ptr<const std::atomic<int64_t>> synced_bytes) {
  MutexLock lock(&mu_);
  logs_[path] = std::move(synced_bytes);
}

void SyncedLogs::Remove(const std::string& path) {
  MutexLock lock(&mu_);
  logs_.erase(path);
}

std::unique_ptr<rocksdb::Env> MakeRocksDbEnv(FileSystem& files, absl::Duration failure_pause,
                                             std::shared_ptr<SyncedLogs> logs) {
  return std::make_unique<RocksDbEnv>(files, failure_pause, std::move(logs));
}

bool IsDiskFull(const rocksdb::Status& status) {
  return status.IsNoSpace() || absl::StrContains(status.ToString(), kDiskFullMark);
}

}  // namespace sconce::catalog
