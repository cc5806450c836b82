#include "storage/repository/data_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace sconce::repository {
namespace {

// Takes the lock and leaves our process id in the file, for the message another process gets. The kernel drops the lock
// when the process ends, however it ends.
absl::StatusOr<UniqueFd> TakeLock(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoToStatus(errno, absl::StrCat("cannot lock ", path));
    char text[32] = {};
    const ssize_t size = ::pread(fd.get(), text, sizeof text - 1, 0);
    int64_t pid = 0;
    const bool known = size > 0 && absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &pid);
    return MakeError(
        Reason::DATA_DIR_LOCKED,
        absl::StrCat("the data directory is in use by ", known ? absl::StrCat("process ", pid) : "another process",
                     "; stop that one, or give this one a directory of its own"),
        {{"pid", known ? absl::StrCat(pid) : ""}});
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
    return ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  }
  return fd;
}

absl::StatusOr<std::string> ReadSmallFile(FileSystem& file_system, const std::string& path) {
  SCONCE_ASSIGN_OR_RETURN(const auto file, file_system.OpenRead(path));
  std::string text(static_cast<size_t>(std::min<int64_t>(file->size_bytes(), 64)), '\0');
  SCONCE_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(reinterpret_cast<uint8_t*>(text.data()), text.size())));
  return text;
}

absl::Status WriteVersion(FileSystem& file_system, const std::string& dir) {
  const std::string made = dir + "/VERSION.new";
  SCONCE_RETURN_IF_ERROR(file_system.Remove(made));
  SCONCE_ASSIGN_OR_RETURN(const auto file, file_system.Create(made, {}));
  SCONCE_RETURN_IF_ERROR(file->WriteAt(0, AsBytes(absl::StrCat(kDataDirVersion, "\n"))));
  SCONCE_RETURN_IF_ERROR(file->Sync());
  SCONCE_RETURN_IF_ERROR(file_system.Rename(made, dir + "/VERSION"));
  return file_system.SyncDirectory(dir);
}

absl::Status CheckVersion(FileSystem& file_system, const std::string& dir, const std::vector<std::string>& names) {
  const auto has = [&](const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  if (!has("VERSION")) {
    const bool fresh = std::all_of(names.begin(), names.end(), [](const std::string& name) {
      return name == "LOCK" || name == "VERSION.new" || name == "lost+found";
    });
    if (fresh) return WriteVersion(file_system, dir);
    return MakeError(Reason::DATA_DIR_INCOMPATIBLE,
                     absl::StrCat("the data directory holds ", Quoted(names.front()),
                                  " but no VERSION file: it is not one of Sconce's; choose an empty directory"));
  }
  SCONCE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(file_system, dir + "/VERSION"));
  const std::string found(absl::StripAsciiWhitespace(text));
  if (found == absl::StrCat(kDataDirVersion)) return absl::OkStatus();
  return MakeError(Reason::DATA_DIR_INCOMPATIBLE,
                   absl::StrCat("the data directory has version ", Quoted(found), " and this build reads ",
                                kDataDirVersion, "; start the release of Sconce that wrote it"),
                   {{"found", found}, {"supported", absl::StrCat(kDataDirVersion)}});
}

}  // namespace

absl::StatusOr<DataDir> DataDir::Open(const std::string& path, FileSystem& file_system) {
  std::vector<std::string> parents;  // of what is missing
  for (std::filesystem::path made = std::filesystem::absolute(path).lexically_normal();
       IsAbsent(file_system.List(made.string()).status()); made = made.parent_path()) {
    parents.push_back(made.parent_path().string());
  }
  SCONCE_RETURN_IF_ERROR(file_system.CreateDirectories(path));
  // Else power loss may take the directory itself, and with it every commit acknowledged by then.
  for (const std::string& parent : parents) SCONCE_RETURN_IF_ERROR(file_system.SyncDirectory(parent));
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system.List(path));
  SCONCE_ASSIGN_OR_RETURN(UniqueFd lock, TakeLock(path + "/LOCK"));
  SCONCE_RETURN_IF_ERROR(CheckVersion(file_system, path, names));
  DataDir dir(path, std::move(lock));
  for (const std::string& part : {dir.catalog_path(), dir.uploads_path(), path + "/blobs", path + "/orphans"}) {
    SCONCE_RETURN_IF_ERROR(file_system.CreateDirectories(part));
  }
  SCONCE_RETURN_IF_ERROR(file_system.SyncDirectory(path));
  return dir;
}

}  // namespace sconce::repository
