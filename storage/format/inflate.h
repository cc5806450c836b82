#ifndef SCONCE_STORAGE_FORMAT_INFLATE_H_
#define SCONCE_STORAGE_FORMAT_INFLATE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/strings.h"

namespace sconce::format {

// Unpacks one raw deflate stream (RFC 1951, what zip's method 8 is) front to back. Keeps a window of 32 KiB and nothing
// else, whatever the stream claims. Borrows the stream. Not thread-safe.
class Inflater {
 public:
  explicit Inflater(ByteSpan deflated);
  ~Inflater();
  Inflater(Inflater&&) noexcept;
  Inflater& operator=(Inflater&&) noexcept;

  // Fills `out` with the next bytes; fewer only at the stream's end. FILE_MALFORMED for what is no deflate stream or
  // ends early.
  absl::StatusOr<size_t> Read(absl::Span<uint8_t> out);
  // True when the stream's end was met exactly at the end of the bytes given.
  bool AtEnd() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_INFLATE_H_
