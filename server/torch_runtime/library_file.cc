#include "server/torch_runtime/library_file.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/module_file.h"
#include "storage/format/record_source.h"
#include "storage/format/zip_reader.h"

namespace sconce::torch_runtime {
namespace {

constexpr unsigned kExecutable = 0x10;  // MFD_EXEC of Linux 6.3, where administrators may forbid to leave it out
constexpr size_t kPieceBytes = size_t{4} << 20;

UniqueFd NewMemoryFile() {
  UniqueFd file(::memfd_create("module", MFD_CLOEXEC | kExecutable));
  if (!file.valid() && errno == EINVAL) file = UniqueFd(::memfd_create("module", MFD_CLOEXEC));
  return file;
}

absl::Status Write(int fd, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoToStatus(errno, "copying the package's library into memory");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> CopyLibrary(ByteSpan archive) {
  SCONCE_ASSIGN_OR_RETURN(const format::ZipReader zip, format::ZipReader::Open(archive));
  SCONCE_ASSIGN_OR_RETURN(const format::ZipRecord* const library, format::FindCompiledLibrary(zip));
  SCONCE_ASSIGN_OR_RETURN(const format::RecordSource source, format::ZipReader::Source(*library));
  UniqueFd file = NewMemoryFile();
  if (!file.valid()) return ErrnoToStatus(errno, "making a file in memory for the package's library");
  for (format::RecordReader reader(source); !reader.done();) {
    SCONCE_ASSIGN_OR_RETURN(const format::RecordPiece piece, reader.Next(kPieceBytes));
    SCONCE_RETURN_IF_ERROR(Write(file.get(), piece.bytes));
  }
  return file;
}

}  // namespace sconce::torch_runtime
