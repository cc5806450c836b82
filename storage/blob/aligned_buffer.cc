#include "storage/blob/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>

#include "base/check.h"
#include "base/file_system.h"

namespace sconce::blob {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

AlignedBuffer::AlignedBuffer(int64_t capacity_bytes) : capacity_(capacity_bytes) {
  SCONCE_CHECK(capacity_bytes > 0 && capacity_bytes % kDirectAlignment == 0);
  const bool huge = capacity_bytes % kHugePage == 0;
  void* memory =
      std::aligned_alloc(static_cast<size_t>(huge ? kHugePage : kDirectAlignment), static_cast<size_t>(capacity_bytes));
  SCONCE_CHECK(memory != nullptr);
  // First touch in 4 KiB pages costs more than hashing what is put there; where huge pages are off this does nothing.
  if (huge) ::madvise(memory, static_cast<size_t>(capacity_bytes), MADV_HUGEPAGE);
  data_ = static_cast<uint8_t*>(memory);
}

AlignedBuffer::~AlignedBuffer() {
  std::free(data_);
}

}  // namespace sconce::blob
