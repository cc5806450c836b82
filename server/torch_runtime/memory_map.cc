#include "server/torch_runtime/memory_map.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/status_macros.h"

namespace sconce::torch_runtime {
namespace {

constexpr int64_t kPage = 4096;
// Smaller pieces are copied: a mapping of their own would cost more than it saves.
constexpr int64_t kMapAtLeast = int64_t{64} << 10;

absl::Status CheckInside(const worker::Extent& extent, int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoToStatus(errno, "looking at a blob");
  // Touching a mapping behind the end of its file would end the process.
  if (extent.offset + extent.size_bytes > info.st_size)
    return ErrnoToStatus(EIO, "a blob is shorter than it should be");
  return absl::OkStatus();
}

absl::Status ReadInto(const worker::Extent& extent, int fd, uint8_t* out) {
  int64_t done = 0;
  while (done < extent.size_bytes) {
    const ssize_t got = ::pread(fd, out + done, static_cast<size_t>(extent.size_bytes - done), extent.offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return ErrnoToStatus(got < 0 ? errno : EIO, "reading a blob");
    done += got;
  }
  return absl::OkStatus();
}

// A range of fresh private pages.
absl::StatusOr<PrivateBytes> Reserve(int64_t size_bytes) {
  const auto length = static_cast<size_t>(size_bytes);
  void* address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return ErrnoToStatus(errno, "making room for weights");
  PrivateBytes bytes;
  bytes.data = static_cast<uint8_t*>(address);
  bytes.size_bytes = size_bytes;
  bytes.owner = std::shared_ptr<const void>(address, [length](void* mapped) { ::munmap(mapped, length); });
  return bytes;
}

// A single extent wherever it lies in its file: mapped from the page below it.
absl::StatusOr<PrivateBytes> MapAlone(const worker::Extent& extent, int fd) {
  const int64_t before = extent.offset % kPage;
  const auto length = static_cast<size_t>(before + extent.size_bytes);
  void* address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, extent.offset - before);
  if (address == MAP_FAILED) return ErrnoToStatus(errno, "mapping a blob");
  PrivateBytes bytes;
  bytes.data = static_cast<uint8_t*>(address) + before;
  bytes.size_bytes = extent.size_bytes;
  bytes.owner = std::shared_ptr<const void>(address, [length](void* mapped) { ::munmap(mapped, length); });
  return bytes;
}

}  // namespace

absl::StatusOr<PrivateBytes> Assemble(const worker::StoredBytes& stored, const std::vector<UniqueFd>& files,
                                      const worker::Body& body) {
  if (stored.extents.empty()) {
    return PrivateBytes{const_cast<uint8_t*>(stored.inline_bytes.data()), stored.size_bytes, body.owner()};
  }
  for (const worker::Extent& extent : stored.extents) {
    SCONCE_RETURN_IF_ERROR(CheckInside(extent, files[extent.file].get()));
  }
  const worker::Extent& first = stored.extents.front();
  const bool alone = stored.extents.size() == 1;
  if (alone && first.size_bytes >= kMapAtLeast && first.offset % static_cast<int64_t>(worker::kDataAlignment) == 0) {
    return MapAlone(first, files[first.file].get());
  }
  SCONCE_ASSIGN_OR_RETURN(PrivateBytes bytes, Reserve(stored.size_bytes));
  int64_t position = 0;
  for (const worker::Extent& extent : stored.extents) {
    const int fd = files[extent.file].get();
    const bool last = &extent == &stored.extents.back();
    // A mapping covers whole pages, so a short one in the middle would hide what comes after it.
    const bool whole_pages =
        position % kPage == 0 && extent.offset % kPage == 0 && (last || extent.size_bytes % kPage == 0);
    uint8_t* const target = bytes.data + position;
    if (whole_pages && extent.size_bytes >= kMapAtLeast) {
      void* mapped = ::mmap(target, static_cast<size_t>(extent.size_bytes), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_FIXED, fd, extent.offset);
      if (mapped == MAP_FAILED) return ErrnoToStatus(errno, "mapping a blob");
    } else {
      SCONCE_RETURN_IF_ERROR(ReadInto(extent, fd, target));
    }
    position += extent.size_bytes;
  }
  return bytes;
}

}  // namespace sconce::torch_runtime
