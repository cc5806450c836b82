#include <cstdint>

#include "base/check.h"
#include "base/file_system.h"
#include "storage/blob/footer.h"

// A blob file's last page and its footer, as a damaged disk or a foreign hand may leave them. The first 8 bytes say
// where the footer stands; the rest is decoded as a footer, and its end as a trailer. What is accepted must encode to
// the same bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sconce;
  using namespace sconce::blob;
  if (size < 8) return 0;
  uint64_t place = 0;
  for (int i = 0; i < 8; ++i) place |= uint64_t{data[i]} << (8 * i);
  const auto at = static_cast<int64_t>(place);
  const ByteSpan bytes(data + 8, size - 8);

  if (const absl::StatusOr<FooterView> view = DecodeFooter(bytes, at); view.ok()) {
    SCONCE_CHECK(AsBytes(EncodeFooter(view->chunks, view->manifest, view->record, at).bytes) == bytes);
    for (const FooterChunk& chunk : view->chunks)
      SCONCE_CHECK(chunk.size_bytes > 0 && chunk.offset <= at - chunk.size_bytes);
  }
  if (bytes.size() >= kTrailerBytes) {
    const ByteSpan end = bytes.last(kTrailerBytes);
    if (const absl::StatusOr<Trailer> trailer = DecodeTrailer(end, at); trailer.ok()) {
      SCONCE_CHECK(ByteSpan(EncodeTrailer(*trailer)) == end);
    }
  }
  return 0;
}
