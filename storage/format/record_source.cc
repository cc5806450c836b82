#include "storage/format/record_source.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/crc32.h"

namespace sconce::format {
namespace {

// Pieces of this size stay in the processor's cache between the checksum and whoever uses them next.
constexpr size_t kWholePieceBytes = size_t{1} << 20;

template <typename Word, typename Swap>
void SwapWords(absl::Span<uint8_t> bytes, Swap swap) {
  for (size_t at = 0; at + sizeof(Word) <= bytes.size(); at += sizeof(Word)) {
    Word word;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    word = swap(word);
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}

}  // namespace

void SwapElements(absl::Span<uint8_t> bytes, size_t width) {
  if (width == 2) {
    SwapWords<uint16_t>(bytes, [](uint16_t word) { return __builtin_bswap16(word); });
  } else if (width == 4) {
    SwapWords<uint32_t>(bytes, [](uint32_t word) { return __builtin_bswap32(word); });
  } else if (width == 8) {
    SwapWords<uint64_t>(bytes, [](uint64_t word) { return __builtin_bswap64(word); });
  }
}

RecordReader::RecordReader(const RecordSource& source) : source_(source) {
  if (source.deflated) inflater_.emplace(source.stored);
}

absl::StatusOr<RecordPiece> RecordReader::Next(size_t max_bytes) {
  const int64_t left = source_.size_bytes - position_;
  // All but the last piece hold whole elements.
  const auto size = static_cast<size_t>(std::min<uint64_t>(static_cast<uint64_t>(left), max_bytes & ~size_t{15}));
  RecordPiece piece;
  if (source_.in_place()) {
    piece.bytes = source_.stored.subspan(static_cast<size_t>(position_), size);
    piece.owner = source_.owner;
    SCONCE_RETURN_IF_ERROR(Check(piece.bytes));
    return piece;
  }
  return Make(size);
}

absl::StatusOr<RecordPiece> RecordReader::Make(size_t size) {
  auto made = std::make_shared<std::vector<uint8_t>>(size);
  if (inflater_.has_value()) {
    absl::StatusOr<size_t> got = inflater_->Read(absl::MakeSpan(*made));
    if (!got.ok()) return Malformed("its compressed data is damaged or cut short");
    if (*got != size) return Malformed("it unpacks to fewer bytes than the archive says");
  } else {
    std::memcpy(made->data(), source_.stored.data() + position_, size);
  }
  SCONCE_RETURN_IF_ERROR(Check(*made));
  SwapElements(absl::MakeSpan(*made), source_.swap_width);
  RecordPiece piece;
  piece.bytes = *made;
  piece.owner = std::move(made);
  return piece;
}

absl::Status RecordReader::Check(ByteSpan piece) {
  if (source_.crc32 != 0) crc32_ = Crc32(piece, crc32_);
  position_ += static_cast<int64_t>(piece.size());
  if (position_ < source_.size_bytes) return absl::OkStatus();
  if (inflater_.has_value() && !inflater_->AtEnd()) {
    // The end of the stream may not have been looked at yet, when the bytes ended with the buffer.
    uint8_t beyond = 0;
    const absl::StatusOr<size_t> got = inflater_->Read(absl::MakeSpan(&beyond, 1));
    if (!got.ok() || *got != 0 || !inflater_->AtEnd()) return Malformed("it does not end where its bytes end");
  }
  if (source_.crc32 != 0 && crc32_ != source_.crc32) return Malformed("it does not fit its CRC-32");
  checked_ = true;
  return absl::OkStatus();
}

absl::Status RecordReader::Malformed(absl::string_view what) const {
  return MakeError(
      Reason::FILE_MALFORMED,
      absl::StrCat("record ", Quoted(source_.name), " is damaged: ", what, "; copy the file again, or write it again"),
      {{"record", std::string(ToStd(source_.name))}});
}

absl::StatusOr<RecordPiece> ReadWholeRecord(const RecordSource& source, int64_t max_bytes) {
  if (source.size_bytes > max_bytes) {
    return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                     absl::StrCat("record ", Quoted(source.name), " has ", source.size_bytes,
                                  " bytes, more than the limit of ", max_bytes, "; keep large data in tensors"),
                     {{"record", std::string(ToStd(source.name))}, {"limit", absl::StrCat(max_bytes)}});
  }
  RecordReader reader(source);
  if (source.in_place()) {
    while (!reader.done()) SCONCE_RETURN_IF_ERROR(reader.Next(kWholePieceBytes).status());
    return RecordPiece{source.stored, source.owner};
  }
  auto whole = std::make_shared<std::vector<uint8_t>>();
  whole->reserve(static_cast<size_t>(source.size_bytes));
  while (!reader.done()) {
    SCONCE_ASSIGN_OR_RETURN(const RecordPiece piece, reader.Next(kWholePieceBytes));
    whole->insert(whole->end(), piece.bytes.begin(), piece.bytes.end());
  }
  RecordPiece piece;
  piece.bytes = *whole;
  piece.owner = std::move(whole);
  return piece;
}

}  // namespace sconce::format
