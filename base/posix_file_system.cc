#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; Debian 12's libc headers may lack the name
#endif

namespace sconce {
namespace {

absl::Status Failed(const char* operation, const std::string& path) {
  return ErrnoToStatus(errno, absl::StrCat("cannot ", operation, " ", path));
}

bool HasErrno(const absl::Status& status, int error_number) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value()) return false;
  for (const auto& [key, value] : detail->metadata) {
    if (key == "errno") return value == std::to_string(error_number);
  }
  return false;
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::Status WriteAt(int64_t offset, ByteSpan data) override {
    while (!data.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), data.data(), data.size(), offset);
      if (n < 0) {
        if (errno == EINTR) continue;
        return Failed("write", path_);
      }
      data.remove_prefix(static_cast<size_t>(n));
      offset += n;
    }
    return absl::OkStatus();
  }
  absl::Status Truncate(int64_t size_bytes) override {
    return ::ftruncate(fd_.get(), size_bytes) == 0 ? absl::OkStatus() : Failed("truncate", path_);
  }
  absl::Status SetMode(uint32_t mode) override {
    return ::fchmod(fd_.get(), mode) == 0 ? absl::OkStatus() : Failed("set the mode of", path_);
  }
  absl::Status Sync() override { return ::fdatasync(fd_.get()) == 0 ? absl::OkStatus() : Failed("sync", path_); }

 private:
  const UniqueFd fd_;
  const std::string path_;
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(UniqueFd fd, int64_t size_bytes, int64_t allocated_bytes, std::string path)
      : fd_(std::move(fd)), size_bytes_(size_bytes), allocated_bytes_(allocated_bytes), path_(std::move(path)) {}
  ~PosixReadableFile() override {
    if (mapping_ != nullptr) ::munmap(mapping_, static_cast<size_t>(size_bytes_));
  }

  int64_t size_bytes() const override { return size_bytes_; }
  int64_t allocated_bytes() const override { return allocated_bytes_; }
  int fd() const override { return fd_.get(); }

  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out) const override {
    while (!out.empty()) {
      const ssize_t n = ::pread(fd_.get(), out.data(), out.size(), offset);
      if (n < 0) {
        if (errno == EINTR) continue;
        return Failed("read", path_);
      }
      if (n == 0) return MakeError(Reason::IO_ERROR, absl::StrCat("cannot read ", path_, ": it ends at byte ", offset));
      out.remove_prefix(static_cast<size_t>(n));
      offset += n;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ByteSpan> Map() const override {
    if (size_bytes_ == 0) return ByteSpan();
    std::lock_guard<std::mutex> lock(mu_);
    if (mapping_ == nullptr) {
      void* mapping = ::mmap(nullptr, static_cast<size_t>(size_bytes_), PROT_READ, MAP_SHARED, fd_.get(), 0);
      if (mapping == MAP_FAILED) return Failed("map", path_);
      mapping_ = mapping;
    }
    return ByteSpan(static_cast<const uint8_t*>(mapping_), static_cast<size_t>(size_bytes_));
  }

  absl::Status Populate(int64_t offset, int64_t size_bytes) const override {
    if (offset < 0 || size_bytes < 0 || offset > size_bytes_ - size_bytes) {
      return MakeError(Reason::IO_ERROR, absl::StrCat("cannot read ", path_, ": ", size_bytes, " bytes at ", offset,
                                                      " are not within its ", size_bytes_, " bytes"));
    }
    if (size_bytes == 0) return absl::OkStatus();
    SCONCE_ASSIGN_OR_RETURN(const ByteSpan all, Map());
    const int64_t begin = offset / kPage * kPage;
    void* address = const_cast<uint8_t*>(all.data() + begin);
    const auto length = static_cast<size_t>(offset + size_bytes - begin);
    while (::madvise(address, length, MADV_POPULATE_READ) != 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      if (errno == EINVAL) return ReadThrough(begin, static_cast<int64_t>(length));  // a kernel before 5.14
      return Failed("read", path_);
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kPage = 4096;

  // Brings the range into the page cache by reading it, so that a disk error shows here.
  absl::Status ReadThrough(int64_t offset, int64_t size_bytes) const {
    std::vector<uint8_t> buffer(static_cast<size_t>(std::min<int64_t>(size_bytes, 1 << 20)));
    for (int64_t done = 0; done < size_bytes;) {
      const int64_t n = std::min<int64_t>(size_bytes - done, static_cast<int64_t>(buffer.size()));
      SCONCE_RETURN_IF_ERROR(ReadAt(offset + done, absl::MakeSpan(buffer.data(), static_cast<size_t>(n))));
      done += n;
    }
    return absl::OkStatus();
  }

  const UniqueFd fd_;
  const int64_t size_bytes_;
  const int64_t allocated_bytes_;
  const std::string path_;
  mutable std::mutex mu_;
  mutable void* mapping_ = nullptr;  // guarded by mu_ until set, then constant
};

class PosixFileSystemImpl final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, const CreateOptions& options) override {
    const int flags = O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC;
    UniqueFd fd(::open(path.c_str(), flags | (options.direct ? O_DIRECT : 0), options.mode));
    if (!fd.valid() && options.direct &&
        errno == EINVAL) {  // tmpfs and others: no O_DIRECT; open() may have made the file
      ::unlink(path.c_str());
      fd.Reset(::open(path.c_str(), flags, options.mode));
    }
    if (!fd.valid()) return Failed("create", path);
    return std::make_unique<PosixWritableFile>(std::move(fd), path);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> OpenWrite(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) return Failed("open for writing", path);
    return std::make_unique<PosixWritableFile>(std::move(fd), path);
  }

  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenRead(const std::string& path) override {
    return Readable(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), path);
  }

  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenDirect(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!fd.valid() && errno == EINVAL) {  // tmpfs and others: what is cached and not mapped is dropped at least
      fd.Reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (fd.valid()) ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
    return Readable(std::move(fd), path);
  }

  absl::Status Link(const std::string& from, const std::string& to) override {
    return ::link(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : Failed("link", absl::StrCat(from, " as ", to));
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    return ::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus()
                                                   : Failed("rename", absl::StrCat(from, " to ", to));
  }

  absl::Status Remove(const std::string& path) override {
    return ::unlink(path.c_str()) == 0 || errno == ENOENT ? absl::OkStatus() : Failed("remove", path);
  }

  absl::Status CreateDirectories(const std::string& path) override {
    if (::mkdir(path.c_str(), 0750) == 0 || errno == EEXIST) return absl::OkStatus();
    const size_t slash = path.find_last_of('/');
    if (errno != ENOENT || slash == std::string::npos || slash == 0) return Failed("create directory", path);
    SCONCE_RETURN_IF_ERROR(CreateDirectories(path.substr(0, slash)));
    return ::mkdir(path.c_str(), 0750) == 0 || errno == EEXIST ? absl::OkStatus() : Failed("create directory", path);
  }

  absl::Status RemoveDirectory(const std::string& path) override {
    return ::rmdir(path.c_str()) == 0 || errno == ENOENT ? absl::OkStatus() : Failed("remove directory", path);
  }

  absl::Status SyncDirectory(const std::string& path) override {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Failed("open directory", path);
    return ::fsync(fd.get()) == 0 ? absl::OkStatus() : Failed("sync directory", path);
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    DIR* directory = ::opendir(path.c_str());
    if (directory == nullptr) return Failed("list", path);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    const int error_number = errno;
    ::closedir(directory);
    if (error_number != 0) return ErrnoToStatus(error_number, absl::StrCat("cannot list ", path));
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<int64_t> FreeBytes(const std::string& path) override {
    struct statvfs info;
    if (::statvfs(path.c_str(), &info) != 0) return Failed("inspect the file system of", path);
    return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
  }

 private:
  // What was just opened, or the error of that.
  static absl::StatusOr<std::shared_ptr<const ReadableFile>> Readable(UniqueFd fd, const std::string& path) {
    if (!fd.valid()) return Failed("open", path);
    struct stat info;
    if (::fstat(fd.get(), &info) != 0) return Failed("inspect", path);
    return std::make_shared<const PosixReadableFile>(std::move(fd), info.st_size, int64_t{info.st_blocks} * 512, path);
  }
};

}  // namespace

bool IsAbsent(const absl::Status& status) {
  return HasErrno(status, ENOENT);
}

bool IsOtherDevice(const absl::Status& status) {
  return HasErrno(status, EXDEV);
}

absl::Status RemoveTree(FileSystem& file_system, const std::string& path) {
  std::vector<std::string> directories = {path};  // parents before their children
  for (size_t i = 0; i < directories.size(); ++i) {
    const std::string directory = directories[i];
    const auto names = file_system.List(directory);
    if (i == 0 && IsAbsent(names.status())) return absl::OkStatus();
    SCONCE_RETURN_IF_ERROR(names.status());
    for (const std::string& name : *names) {
      const std::string child = absl::StrCat(directory, "/", name);
      struct stat info;
      if (::lstat(child.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
        directories.push_back(child);
      } else {
        SCONCE_RETURN_IF_ERROR(file_system.Remove(child));
      }
    }
  }
  for (size_t i = directories.size(); i-- > 0;) SCONCE_RETURN_IF_ERROR(file_system.RemoveDirectory(directories[i]));
  return absl::OkStatus();
}

FileSystem& PosixFileSystem() {
  static PosixFileSystemImpl* const file_system = new PosixFileSystemImpl;
  return *file_system;
}

}  // namespace sconce
