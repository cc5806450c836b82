#include "storage/format/pickle_writer.h"

#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/format/latin1.h"
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

void PickleWriter::StrHeader(uint64_t utf8_bytes) {
  const bool is_long = utf8_bytes > std::numeric_limits<uint32_t>::max();
  Op(is_long ? PickleOp::kBinUnicode8 : PickleOp::kBinUnicode);
  AppendLittle(out_, utf8_bytes, is_long ? 8 : 4);
}

void PickleWriter::Str(absl::string_view utf8) {
  StrHeader(utf8.size());
  out_.append(utf8.data(), utf8.size());
}

void PickleWriter::Latin1(absl::string_view bytes) {
  StrHeader(Latin1Utf8Bytes(AsBytes(bytes)));
  AppendLatin1Utf8(AsBytes(bytes), out_);
}

void PickleWriter::Bytes(absl::string_view bytes) {
  Global("_codecs", "encode");
  Latin1(bytes);
  SharedStr("latin1");
  Tuple(2);
  Op(PickleOp::kReduce);
}

size_t PickleWriter::BytesWithoutText(uint64_t utf8_bytes) {
  Global("_codecs", "encode");
  StrHeader(utf8_bytes);
  const size_t at = out_.size();
  SharedStr("latin1");
  Tuple(2);
  Op(PickleOp::kReduce);
  return at;
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

bool PickleWriter::GetNamed(absl::string_view key) {
  const auto it = named_.find(key);
  if (it == named_.end()) return false;
  Get(it->second);
  return true;
}

void PickleWriter::NameAs(absl::string_view key) {
  named_.emplace(key, Put());
}

std::string PickleWriter::Finish() {
  Op(PickleOp::kStop);
  return std::move(out_);
}

}  // namespace sconce::format
