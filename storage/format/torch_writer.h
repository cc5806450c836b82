#ifndef SCONCE_STORAGE_FORMAT_TORCH_WRITER_H_
#define SCONCE_STORAGE_FORMAT_TORCH_WRITER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/format/checkpoint_stream.h"
#include "storage/format/manifest.h"
#include "storage/format/storage_bytes.h"

namespace sconce::format {

// A checkpoint as the zip archive torch.save would write, made on the fly: torch.load of PyTorch 1.13 and newer reads
// it (from 2.6 on with weights_only=True, and with mmap=True), as far as that release knows what is in it (see
// torch_pickle.h). The same manifest and bytes give the same file, byte for byte.
//
// Memory: the pickled tree and a few words for each storage, never a storage's bytes. Skipping computes what it skips:
// the checksums at the end of the file need every byte. Reading is IO_ERROR when a numpy array is no longer what it was
// in Create.
class TorchFileStream : public CheckpointStream {
 public:
  // `manifest` (which must pass Validate) and `bytes` are borrowed and outlive the stream.
  // `identity` goes into the file's serialization id beside what the manifest says of its bytes: give it when the
  // manifest has no chunk digests, so that other bytes get another id.
  // FILE_UNSUPPORTED, naming the place in the tree, for what no torch file can hold. Reads nothing but the storages of
  // numpy arrays, which go into the pickle as text whose length must be known; an error of theirs is passed on.
  static absl::StatusOr<std::unique_ptr<TorchFileStream>> Create(const Manifest& manifest, StorageBytes& bytes,
                                                                 absl::string_view identity = "");
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_WRITER_H_
