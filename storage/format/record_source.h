#ifndef SCONCE_STORAGE_FORMAT_RECORD_SOURCE_H_
#define SCONCE_STORAGE_FORMAT_RECORD_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "storage/format/inflate.h"

namespace sconce::format {

// Where bytes (those of a storage, of a pickle) lie in a file, and what becomes of them on the way out. Borrows from
// the file. Making one reads nothing.
struct RecordSource {
  ByteSpan stored;              // in the file; what deflate made of the bytes when `deflated`
  int64_t size_bytes = 0;       // of the bytes themselves
  uint32_t crc32 = 0;           // which the bytes must have before they are turned around; 0: not computed
  bool deflated = false;        // zip method 8
  uint8_t swap_width = 1;       // 2, 4 or 8: elements of so many bytes are big-endian and are to be turned around
  absl::string_view name = {};  // of the record, for messages; empty when the file does not name it
  std::shared_ptr<const void> owner = nullptr;  // of `stored` when it is not in the file but made of what is there

  static RecordSource Plain(ByteSpan bytes) {
    RecordSource source;
    source.stored = bytes;
    source.size_bytes = static_cast<int64_t>(bytes.size());
    return source;
  }
  // True when the bytes can be used where they lie.
  bool in_place() const { return !deflated && swap_width <= 1; }
};

// Bytes in the file (then `owner` is null) or made for this piece or its record.
struct RecordPiece {
  ByteSpan bytes;
  std::shared_ptr<const void> owner;
};

// Reads a record once, front to back: inflated, in little-endian order, and with its checksum checked before the last
// piece is given away. So whoever moves bytes checks them in the same pass, and what was moved before a failure must be
// dropped. Memory: a piece, and deflate's window. Not thread-safe.
class RecordReader {
 public:
  explicit RecordReader(const RecordSource& source);

  int64_t position() const { return position_; }
  bool done() const { return position_ == source_.size_bytes && checked_; }
  // The next bytes, 1 to `max_bytes` of them (which is at least 16); none of an empty record. Requires !done().
  // FILE_MALFORMED naming the record when its checksum does not fit, or deflate's bytes are not as many as promised.
  absl::StatusOr<RecordPiece> Next(size_t max_bytes);

 private:
  absl::StatusOr<RecordPiece> Make(size_t bytes);
  absl::Status Check(ByteSpan piece);
  absl::Status Malformed(absl::string_view what) const;

  const RecordSource source_;
  std::optional<Inflater> inflater_;
  int64_t position_ = 0;
  uint32_t crc32_ = 0;  // of the bytes before position_
  bool checked_ = false;
};

// All of a record. Errors as RecordReader::Next; INPUT_LIMIT_EXCEEDED when it has more than `max_bytes`.
absl::StatusOr<RecordPiece> ReadWholeRecord(const RecordSource& source, int64_t max_bytes = INT64_MAX);

// Reverses the bytes of each element of `width` bytes (2, 4 or 8); a rest at the end that is no whole element stays.
void SwapElements(absl::Span<uint8_t> bytes, size_t width);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_RECORD_SOURCE_H_
