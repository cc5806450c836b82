#ifndef SCONCE_STORAGE_FORMAT_SCRIPT_READER_H_
#define SCONCE_STORAGE_FORMAT_SCRIPT_READER_H_

#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/torch_reader.h"

namespace sconce::format {

// Reads the archive of torch.jit.save as data: a dict of
//
//   "module"     the module: a dict of its attributes, those of submodules below; parameters and buffers are tensors
//   "constants"  the tensors that the code names, a tuple
//   "code"       name -> bytes of each record of the source code and its debug information, "__torch__.py"
//   "extra"      name -> bytes of the records that were given as _extra_files; absent without any
//
// Code is never executed nor looked into. What is read is no module any more: to keep one as it is, store the archive
// as a module. Errors as of IndexTorchFile; INPUT_LIMIT_EXCEEDED for more than kMaxScriptTextBytes of code.
absl::StatusOr<TorchIndex> IndexScriptArchive(ByteSpan file);

inline constexpr int64_t kMaxScriptTextBytes = int64_t{64} << 20;

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SCRIPT_READER_H_
