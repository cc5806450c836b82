#ifndef SCONCE_STORAGE_FORMAT_OPEN_CHECKPOINT_H_
#define SCONCE_STORAGE_FORMAT_OPEN_CHECKPOINT_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/torch_reader.h"

namespace sconce::format {

// Finds out what is in a checkpoint file of whatever kind, told by its content, never by its name, and where its bytes
// lie: a zip archive of torch.save (torch_reader.h) or of torch.jit.save (script_reader.h), the container of PyTorch
// before 1.6 (legacy_reader.h), safetensors (safetensors_reader.h), whose errors it has. A kind that is recognised but
// not read (tar, a bare pickle) is FILE_UNSUPPORTED saying what to do instead; anything else is FILE_MALFORMED. The
// result borrows from `file`.
absl::StatusOr<TorchIndex> IndexCheckpointFile(ByteSpan file);

// The same with all bytes read and checked: IndexCheckpointFile and LoadRecords.
absl::StatusOr<TorchFile> ReadCheckpointFile(ByteSpan file);

// True for a zip archive that holds a TorchScript module (torch.jit.save): it has a record `constants.pkl`, as
// torch.load tests it.
bool IsTorchScriptArchive(ByteSpan file);

// OK when `file` is a whole TorchScript archive: a sound zip archive with constants.pkl, data.pkl and code/. Says
// nothing about the code in it. MODULE_INVALID for an archive of another kind, else FILE_TRUNCATED, FILE_MALFORMED or
// FILE_UNSUPPORTED.
absl::Status CheckTorchScriptArchive(ByteSpan file);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_OPEN_CHECKPOINT_H_
