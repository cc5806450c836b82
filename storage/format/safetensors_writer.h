#ifndef SCONCE_STORAGE_FORMAT_SAFETENSORS_WRITER_H_
#define SCONCE_STORAGE_FORMAT_SAFETENSORS_WRITER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/format/checkpoint_stream.h"
#include "storage/format/manifest.h"
#include "storage/format/storage_bytes.h"

namespace sconce::format {

// A checkpoint as a .safetensors file, laid out as the safetensors library lays it out: tensors of the widest dtypes
// first, then by name, so that a file of that library comes back byte for byte. The root must be a dict. What is below
// it becomes flat:
//
//  * A tensor is named by the keys and positions on the way to it, joined by dots: {"model": {"fc.weight": t}} gives
//    "model.fc.weight". Where two get one name, FILE_UNSUPPORTED says so: select one part of the tree.
//  * Tensors are written out in row-major order, each with bytes of its own. A Parameter is written as its tensor.
//  * Scalars (bool, int, float, str) go into `__metadata__` as text, under the same kind of name; and so does, first,
//  the
//    metadata of a .safetensors file that was read (kSafetensorsMetadataAttribute). Other values are left out.
//
// `notes` says in sentences what the file does not hold as the checkpoint did, for a person. Resuming costs nothing:
// the format has no checksums.
class SafetensorsStream : public CheckpointStream {
 public:
  // `manifest` (which must pass Validate) and `bytes` are borrowed and outlive the stream. FILE_UNSUPPORTED, naming the
  // place in the tree, for what the format cannot hold: sparse, quantized, nested, meta and conjugated tensors,
  // subclasses, arrays, bare storages, dtypes that it lacks, keys that are neither str nor int. Nothing has been
  // read from `bytes` then.
  static absl::StatusOr<std::unique_ptr<SafetensorsStream>> Create(const Manifest& manifest, StorageBytes& bytes);

  virtual const std::vector<std::string>& notes() const = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SAFETENSORS_WRITER_H_
