#ifndef SCONCE_SERVER_TORCH_RUNTIME_LIBRARY_FILE_H_
#define SCONCE_SERVER_TORCH_RUNTIME_LIBRARY_FILE_H_

#include "absl/status/statusor.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace sconce::torch_runtime {

// The shared library in the compiled package `archive`, in a file that lies in memory alone, its checksum checked.
// MODULE_INVALID for a package without one or with several; FILE_MALFORMED; IO_ERROR.
absl::StatusOr<UniqueFd> CopyLibrary(ByteSpan archive);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_LIBRARY_FILE_H_
