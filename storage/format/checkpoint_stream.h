#ifndef SCONCE_STORAGE_FORMAT_CHECKPOINT_STREAM_H_
#define SCONCE_STORAGE_FORMAT_CHECKPOINT_STREAM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace sconce::format {

// A checkpoint file of some format, made on the fly: the same manifest and bytes give the same file, byte for byte.
// What is kept in memory does not depend on how large the storages are. Not thread-safe.
//
//   while (stream->position() < stream->size_bytes()) {
//     const auto piece = buffer.subspan(0, std::min<int64_t>(buffer.size(), stream->size_bytes() -
//     stream->position())); SCONCE_RETURN_IF_ERROR(stream->Read(piece));
//     ...
//   }
class CheckpointStream {
 public:
  virtual ~CheckpointStream() = default;

  // Of the whole file; known before the first byte.
  virtual int64_t size_bytes() const = 0;
  virtual int64_t position() const = 0;

  // Fills `out` with the next bytes of the file; `out` must not reach past the end (OFFSET_OUT_OF_RANGE, and nothing
  // happens). Another error is one of the storages' bytes: the stream is then broken and repeats it.
  virtual absl::Status Read(absl::Span<uint8_t> out) = 0;
  // Drops the next `n` bytes, e.g. to resume. A format with checksums at its end must compute them nevertheless. Errors
  // as Read.
  virtual absl::Status Skip(int64_t n) = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_CHECKPOINT_STREAM_H_
