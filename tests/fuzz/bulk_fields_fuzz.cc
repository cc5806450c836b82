// Any bytes, in any pieces: parsing them as a bulk message fails with a status, or gives fields that point into them,
// and it does not matter how the pieces were cut.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/strings.h"
#include "proto/wire/bulk_fields.h"

namespace sconce::wire {
namespace {

std::string Join(const std::vector<ByteSpan>& pieces) {
  std::string all;
  for (const ByteSpan piece : pieces) all += std::string(ToStd(AsText(piece)));
  return all;
}

// `input` in pieces of `step` bytes, each in memory of its own so that the sanitizer sees where it ends.
struct Pieces {
  Pieces(ByteSpan input, size_t step) {
    for (size_t at = 0; at < input.size(); at += step) {
      const ByteSpan part = input.subspan(at, step);
      owned.push_back(std::make_unique<std::vector<uint8_t>>(part.begin(), part.end()));
      spans.emplace_back(*owned.back());
    }
  }
  std::vector<std::unique_ptr<std::vector<uint8_t>>> owned;
  std::vector<ByteSpan> spans;
};

void CheckInput(ByteSpan input, size_t step) {
  const Pieces pieces(input, step);
  const absl::StatusOr<BulkFields> whole = ParseBulkFields({input});
  const absl::StatusOr<BulkFields> cut = ParseBulkFields(pieces.spans);
  SCONCE_CHECK(whole.ok() == cut.ok());
  if (!whole.ok()) return;
  SCONCE_CHECK(whole->header == cut->header && whole->offset == cut->offset && whole->xxh3 == cut->xxh3);
  SCONCE_CHECK(Join(whole->manifest) == Join(cut->manifest) && Join(whole->data) == Join(cut->data));
  SCONCE_CHECK(whole->manifest_bytes() + whole->data_bytes() <= static_cast<int64_t>(input.size()));
  for (const std::vector<ByteSpan>* field : {&whole->manifest, &whole->data}) {
    for (const ByteSpan piece : *field) {
      SCONCE_CHECK(!piece.empty() && piece.begin() >= input.begin() && piece.end() <= input.end());
    }
  }
}

}  // namespace
}  // namespace sconce::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  sconce::wire::CheckInput({data + 1, size - 1}, 1 + data[0] % 32);
  return 0;
}
