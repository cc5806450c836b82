#ifndef SCONCE_STORAGE_FORMAT_MODULE_KEYS_H_
#define SCONCE_STORAGE_FORMAT_MODULE_KEYS_H_

#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/load_plan.h"

namespace sconce::format {

// The parameters and buffers of the TorchScript archive `archive` (torch.jit.save), as `module.state_dict()` lists
// them: a module's own parameters, its own buffers, then those of its submodules. Nothing is executed: data.pkl says
// which attributes there are, and the class statements in code/ which of them are parameters and buffers. Only those
// records are read, none of the tensors' bytes.
//
// MODULE_INVALID for a file that is no such archive or does not hold together; the errors of ZipReader;
// FILE_UNSUPPORTED for a parameter of a kind that PyTorch writes in another way than dense, quantized or sparse;
// INPUT_LIMIT_EXCEEDED for more than kMaxTargetKeys parameters and buffers or a million submodules. Time and memory are
// bounded by the size of those records.
absl::StatusOr<LoadTarget> TargetOfModule(ByteSpan archive);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_MODULE_KEYS_H_
