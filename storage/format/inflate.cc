#include "storage/format/inflate.h"

#include <zlib.h>

#include <algorithm>
#include <climits>

#include "base/check.h"
#include "base/error.h"

namespace sconce::format {

struct Inflater::State {
  z_stream stream = {};
  ByteSpan rest;  // not yet handed to zlib
  bool ended = false;

  State() { SCONCE_CHECK(inflateInit2(&stream, -MAX_WBITS) == Z_OK); }
  ~State() { inflateEnd(&stream); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Inflater::Inflater(ByteSpan deflated) : state_(std::make_unique<State>()) {
  state_->rest = deflated;
}
Inflater::~Inflater() = default;
Inflater::Inflater(Inflater&&) noexcept = default;
Inflater& Inflater::operator=(Inflater&&) noexcept = default;

absl::StatusOr<size_t> Inflater::Read(absl::Span<uint8_t> out) {
  z_stream& stream = state_->stream;
  size_t done = 0;
  while (done < out.size() && !state_->ended) {
    if (stream.avail_in == 0) {
      const ByteSpan piece = state_->rest.subspan(0, INT_MAX);
      stream.next_in = const_cast<Bytef*>(piece.data());  // zlib does not write there
      stream.avail_in = static_cast<uInt>(piece.size());
      state_->rest.remove_prefix(piece.size());
    }
    const size_t room = std::min<size_t>(out.size() - done, INT_MAX);
    stream.next_out = out.data() + done;
    stream.avail_out = static_cast<uInt>(room);
    const int result = inflate(&stream, Z_NO_FLUSH);
    done += room - stream.avail_out;
    if (result == Z_STREAM_END) {
      state_->ended = true;
    } else if (result != Z_OK) {  // Z_BUF_ERROR: it wants more than there is
      return MakeError(Reason::FILE_MALFORMED, "compressed data is damaged or cut short; write the file again");
    }
  }
  return done;
}

bool Inflater::AtEnd() const {
  return state_->ended && state_->stream.avail_in == 0 && state_->rest.empty();
}

}  // namespace sconce::format
