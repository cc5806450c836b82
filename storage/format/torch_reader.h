#ifndef SCONCE_STORAGE_FORMAT_TORCH_READER_H_
#define SCONCE_STORAGE_FORMAT_TORCH_READER_H_

#include <vector>

#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// A checkpoint file as data. `bytes` borrows from the file, which must outlive it.
struct TorchFile {
  Manifest manifest;  // inline_bytes of small storages are filled in; chunks are not yet known and left empty
  std::vector<ByteSpan>
      bytes;  // for each storage of the manifest all its bytes, inside the file; empty for a meta storage
};

// Reads the zip archive that torch.save writes (PyTorch 1.6 and newer), without copying tensors: `file` is usually a
// mapping. Nothing in the file is ever executed: the pickle inside may only name classes and functions of a fixed list,
// and even those are never called; they become data. Every checksum in the file is checked, so all of it is read once.
//
// Fails with FILE_TRUNCATED (the archive's directory is missing), FILE_MALFORMED (naming the record or the place in the
// tree), FILE_UNSUPPORTED (sound, but of a kind not stored yet), PICKLE_GLOBAL_REFUSED (metadata `globals`: all the
// names, comma-separated) or INPUT_LIMIT_EXCEEDED. What is returned passes Validate(). Time and memory are bounded by
// the file's size.
absl::StatusOr<TorchFile> ReadTorchFile(ByteSpan file);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_READER_H_
