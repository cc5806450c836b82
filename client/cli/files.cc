#include "client/cli/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/status_macros.h"

namespace sconce::cli {
namespace {

std::string PartialName(const std::string& path) {
  return path + ".part";
}

}  // namespace

absl::StatusOr<wire::SharedBytes> MapFile(const std::string& path) {
  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const ReadableFile> file, PosixFileSystem().OpenRead(path));
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan bytes, file->Map());
  return wire::SharedBytes{bytes, file};
}

OutputFile::OutputFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path) {
  if (path == "-") return std::unique_ptr<OutputFile>(new OutputFile(path, UniqueFd(::dup(STDOUT_FILENO))));
  const std::string partial = PartialName(path);
  UniqueFd fd(::open(partial.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("cannot create ", partial));
  return std::unique_ptr<OutputFile>(new OutputFile(path, std::move(fd)));
}

OutputFile::~OutputFile() {
  if (!committed_ && !is_stdout()) ::unlink(PartialName(path_).c_str());
}

absl::Status OutputFile::Append(ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, absl::StrCat("cannot write ", is_stdout() ? "standard output" : path_));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Commit() {
  if (!is_stdout()) {
    if (::fsync(fd_.get()) != 0) return ErrnoToStatus(errno, absl::StrCat("cannot sync ", path_));
    SCONCE_RETURN_IF_ERROR(PosixFileSystem().Rename(PartialName(path_), path_));
  }
  committed_ = true;
  return absl::OkStatus();
}

std::string BaseName(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}

}  // namespace sconce::cli
