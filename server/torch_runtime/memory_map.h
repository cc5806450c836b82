#ifndef SCONCE_SERVER_TORCH_RUNTIME_MEMORY_MAP_H_
#define SCONCE_SERVER_TORCH_RUNTIME_MEMORY_MAP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "server/worker_protocol/channel.h"
#include "server/worker_protocol/messages.h"

namespace sconce::torch_runtime {

// One contiguous range of memory. Writing to it reaches no file: pages are private.
struct PrivateBytes {
  uint8_t* data = nullptr;
  int64_t size_bytes = 0;
  std::shared_ptr<const void> owner;
};

// The bytes of `stored` in one piece, at an address that is a multiple of 64. What lies in files at page boundaries is
// mapped, so that workers of one machine share it, and read when it is touched; the rest is copied. `body` is the
// packet that inline bytes refer to. IO_ERROR; extents that lie outside their file are IO_ERROR too.
absl::StatusOr<PrivateBytes> Assemble(const worker::StoredBytes& stored, const std::vector<UniqueFd>& files,
                                      const worker::Body& body);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_MEMORY_MAP_H_
