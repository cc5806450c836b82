#ifndef SCONCE_STORAGE_FORMAT_LEGACY_READER_H_
#define SCONCE_STORAGE_FORMAT_LEGACY_READER_H_

#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/torch_reader.h"

namespace sconce::format {

// True when the file starts with the pickled number that torch.save writes first when it writes no zip archive
// (PyTorch before 1.6, and `_use_new_zipfile_serialization=False` since), whatever pickle protocol it was asked for.
bool IsLegacyTorchFile(ByteSpan file);

// Reads such a file, as IndexTorchFile reads the zip archive: five pickles (magic number, protocol version, facts about
// the machine, the tree, the keys of the storages in the file) and then, in the order of those keys, each storage's
// number of elements (8 bytes, little-endian) and bytes. The format has no checksums, so damage to a tensor is not
// noticed. Elements are little-endian whatever the machine was; PyTorch too goes by that and not by what the file says
// of the machine. What follows the last storage is not looked at: several checkpoints may follow each other in one
// file.
//
// Errors as of IndexTorchFile; FILE_TRUNCATED when a storage reaches past the end of the file.
absl::StatusOr<TorchIndex> IndexLegacyTorchFile(ByteSpan file);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_LEGACY_READER_H_
