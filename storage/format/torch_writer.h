#ifndef SCONCE_STORAGE_FORMAT_TORCH_WRITER_H_
#define SCONCE_STORAGE_FORMAT_TORCH_WRITER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"
#include "storage/format/storage_bytes.h"

namespace sconce::format {

// A checkpoint as the zip archive torch.save would write, made on the fly: torch.load of PyTorch 1.13 and newer reads
// it (from 2.6 on with weights_only=True, and with mmap=True), as far as that release knows what is in it (see
// torch_pickle.h). The same manifest and bytes give the same file, byte for byte.
//
// Memory: the pickled tree and a few words for each storage, never a storage's bytes. Not thread-safe.
//
//   SCONCE_ASSIGN_OR_RETURN(auto stream, TorchFileStream::Create(manifest, bytes));
//   while (stream->position() < stream->size_bytes()) {
//     const auto piece = buffer.subspan(0, std::min<int64_t>(buffer.size(), stream->size_bytes() -
//     stream->position())); SCONCE_RETURN_IF_ERROR(stream->Read(piece));
//     ...
//   }
class TorchFileStream {
 public:
  // `manifest` (which must pass Validate) and `bytes` are borrowed and outlive the stream.
  // FILE_UNSUPPORTED, naming the place in the tree, for what no torch file can hold. Reads nothing but the storages of
  // numpy arrays, which go into the pickle as text whose length must be known; an error of theirs is passed on.
  static absl::StatusOr<std::unique_ptr<TorchFileStream>> Create(const Manifest& manifest, StorageBytes& bytes);
  virtual ~TorchFileStream() = default;

  // Of the whole file; known before the first byte.
  virtual int64_t size_bytes() const = 0;
  virtual int64_t position() const = 0;

  // Fills `out` with the next bytes of the file; `out` must not reach past the end (OFFSET_OUT_OF_RANGE, and nothing
  // happens). Another error is one of `bytes`, or IO_ERROR when a numpy array is no longer what it was in Create: the
  // stream is then broken and repeats it.
  virtual absl::Status Read(absl::Span<uint8_t> out) = 0;
  // Computes and drops the next `n` bytes, e.g. to resume: the checksums at the end of the file need every byte. Errors
  // as Read.
  virtual absl::Status Skip(int64_t n) = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_WRITER_H_
