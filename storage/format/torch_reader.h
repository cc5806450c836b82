#ifndef SCONCE_STORAGE_FORMAT_TORCH_READER_H_
#define SCONCE_STORAGE_FORMAT_TORCH_READER_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/manifest.h"
#include "storage/format/record_source.h"

namespace sconce::format {

// What a checkpoint file holds and where its bytes lie. Borrows from the file, which must outlive it.
struct TorchIndex {
  Manifest manifest;  // inline_bytes of small storages are filled in; chunks are not yet known and left empty
  std::vector<RecordSource> records;  // for each storage of the manifest; an empty one for a meta storage
};

// A checkpoint file as data. `bytes` borrows from the file, which must outlive it.
struct TorchFile {
  Manifest manifest;                  // as in TorchIndex
  std::vector<ByteSpan> bytes;        // for each storage of the manifest all its bytes; empty for a meta storage
  std::shared_ptr<const void> owner;  // of those bytes that do not lie in the file as they are
};

// Reads the zip archive that torch.save writes (PyTorch 1.6 and newer), without looking at the bytes of tensors, except
// of storages small enough to live in the manifest: `file` is usually a mapping. Nothing in the file is ever executed:
// the pickle inside may only name classes and functions of a fixed list, and even those are never called; they become
// data. Deflated records (no release of PyTorch writes them, all read them) and big-endian archives (record
// `byteorder`) are read too.
//
// Checksums are checked of what is read here: the tree, and small storages. Those of the others are left to whoever
// reads the bytes: a RecordReader checks as it goes.
//
// Fails with FILE_TRUNCATED (the archive's directory is missing), FILE_MALFORMED (naming the record or the place in the
// tree), FILE_UNSUPPORTED (sound, but of a kind not stored yet), PICKLE_GLOBAL_REFUSED (metadata `globals`: all the
// names, comma-separated) or INPUT_LIMIT_EXCEEDED. What is returned passes Validate(). Time and memory are bounded by
// the file's size.
absl::StatusOr<TorchIndex> IndexTorchFile(ByteSpan file);

// Reads all the bytes of an index, checking every checksum. In memory only what does not lie in the file as it is
// (deflated or big-endian records). FILE_MALFORMED naming the record.
absl::StatusOr<TorchFile> LoadRecords(TorchIndex index);

// IndexTorchFile and LoadRecords.
absl::StatusOr<TorchFile> ReadTorchFile(ByteSpan file);

// For readers of containers: fills the inline bytes of small storages in, once records are known, and checks the
// manifest. With `big_endian` the elements of all records are first set to be turned around, by the dtype of the
// tensors that see them; FILE_UNSUPPORTED when two tensors see one storage in elements of different widths.
absl::Status FinishIndex(bool big_endian, TorchIndex& index);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_READER_H_
