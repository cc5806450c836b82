#include "storage/format/pickle_writer.h"

#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/format/zip_format.h"

namespace sconce::format {

PickleWriter::PickleWriter() {
  Op(PickleOp::kProto);
  out_.push_back(2);
}

void PickleWriter::Int(int64_t number) {
  if (number >= 0 && number <= 0xff) {
    Op(PickleOp::kBinInt1);
    AppendLittle(out_, static_cast<uint64_t>(number), 1);
  } else if (number >= 0 && number <= 0xffff) {
    Op(PickleOp::kBinInt2);
    AppendLittle(out_, static_cast<uint64_t>(number), 2);
  } else if (number >= std::numeric_limits<int32_t>::min() && number <= std::numeric_limits<int32_t>::max()) {
    Op(PickleOp::kBinInt);
    AppendLittle(out_, static_cast<uint64_t>(number), 4);
  } else {
    std::string bytes;
    AppendLittle(bytes, static_cast<uint64_t>(number), 8);
    size_t length = 8;  // without the bytes that only repeat the sign
    const auto sign_of = [&](size_t i) { return (bytes[i] & 0x80) != 0; };
    while (length > 1 && bytes[length - 1] == (sign_of(length - 2) ? '\xff' : '\0')) --length;
    Long(absl::string_view(bytes).substr(0, length));
  }
}

void PickleWriter::Long(absl::string_view little_endian) {
  const bool is_short = little_endian.size() <= 0xff;
  Op(is_short ? PickleOp::kLong1 : PickleOp::kLong4);
  AppendLittle(out_, little_endian.size(), is_short ? 1 : 4);
  out_.append(little_endian.data(), little_endian.size());
}

void PickleWriter::Float(double number) {
  Op(PickleOp::kBinFloat);
  uint64_t bits = 0;
  std::memcpy(&bits, &number, sizeof bits);
  AppendLittle(out_, __builtin_bswap64(bits), 8);
}

void PickleWriter::Str(absl::string_view utf8) {
  Op(PickleOp::kBinUnicode);
  AppendLittle(out_, utf8.size(), 4);
  out_.append(utf8.data(), utf8.size());
}

void PickleWriter::Latin1(absl::string_view bytes) {
  std::string utf8;
  utf8.reserve(bytes.size() * 3 / 2);
  for (const char c : bytes) {
    const auto code = static_cast<uint8_t>(c);
    if (code < 0x80) {
      utf8.push_back(c);
    } else {
      utf8.push_back(static_cast<char>(0xc0 | code >> 6));
      utf8.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    }
  }
  Str(utf8);
}

void PickleWriter::Bytes(absl::string_view bytes) {
  Global("_codecs", "encode");
  Latin1(bytes);
  SharedStr("latin1");
  Tuple(2);
  Op(PickleOp::kReduce);
}

void PickleWriter::ByteArray(absl::string_view bytes) {
  Global("__builtin__", "bytearray");
  Latin1(bytes);
  SharedStr("latin-1");
  Tuple(2);
  Op(PickleOp::kReduce);
}

void PickleWriter::Tuple(size_t count) {
  switch (count) {
    case 0:
      return Op(PickleOp::kEmptyTuple);
    case 1:
      return Op(PickleOp::kTuple1);
    case 2:
      return Op(PickleOp::kTuple2);
    case 3:
      return Op(PickleOp::kTuple3);
    default:
      return Op(PickleOp::kTuple);
  }
}

PickleWriter::Memo PickleWriter::Put() {
  const bool is_short = next_memo_ <= 0xff;
  Op(is_short ? PickleOp::kBinPut : PickleOp::kLongBinPut);
  AppendLittle(out_, next_memo_, is_short ? 1 : 4);
  return next_memo_++;
}

void PickleWriter::Get(Memo memo) {
  const bool is_short = memo <= 0xff;
  Op(is_short ? PickleOp::kBinGet : PickleOp::kLongBinGet);
  AppendLittle(out_, memo, is_short ? 1 : 4);
}

bool PickleWriter::GetIfKnown(absl::string_view key) {
  const auto it = known_.find(key);
  if (it == known_.end()) return false;
  Get(it->second);
  return true;
}

void PickleWriter::Global(absl::string_view module, absl::string_view name) {
  std::string lines = absl::StrCat(module, "\n", name, "\n");
  if (GetIfKnown(lines)) return;
  Op(PickleOp::kGlobal);
  out_ += lines;
  known_.emplace(std::move(lines), Put());
}

void PickleWriter::SharedStr(absl::string_view utf8) {
  if (GetIfKnown(utf8)) return;
  Str(utf8);
  known_.emplace(utf8, Put());
}

std::string PickleWriter::Finish() {
  Op(PickleOp::kStop);
  return std::move(out_);
}

}  // namespace sconce::format
