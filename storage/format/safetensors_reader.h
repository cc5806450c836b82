#ifndef SCONCE_STORAGE_FORMAT_SAFETENSORS_READER_H_
#define SCONCE_STORAGE_FORMAT_SAFETENSORS_READER_H_

#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/torch_reader.h"

namespace sconce::format {

// The attribute of the root that holds a safetensors file's metadata, a dict of strs. Not `_metadata`, which
// load_state_dict would take for the versions of modules.
inline constexpr char kSafetensorsMetadataAttribute[] = "safetensors_metadata";

// Reads a .safetensors file (see safetensors_header.h) as an OrderedDict of tensors, in the order of its header, as
// load_state_dict takes it. The metadata, if there are any, become the attribute above. Every tensor has a storage of
// its own on the device "cpu": the format knows neither sharing nor devices.
//
// Reads the header and the bytes of small tensors only. The format has no checksums, so damage to a tensor is not
// noticed. Errors as of ParseSafetensorsHeader; INPUT_LIMIT_EXCEEDED for more tensors than a manifest holds.
absl::StatusOr<TorchIndex> IndexSafetensorsFile(ByteSpan file);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SAFETENSORS_READER_H_
