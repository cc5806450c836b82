#include "storage/format/python_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

enum class Form : uint8_t { kBytes, kUtf8, kUtf16, kUtf32 };

struct Codec {
  Form form = Form::kBytes;
  uint32_t end = 0;  // kBytes: the first character that has no byte
  bool big_endian = false;
  bool marked = false;  // begins with a byte order mark
};

constexpr Codec kAscii = {Form::kBytes, 0x80, false, false};
constexpr Codec kLatin1 = {Form::kBytes, 0x100, false, false};
constexpr Codec kUtf8 = {Form::kUtf8, 0, false, false};

struct CodecName {
  const char* name;  // normalized
  Codec codec;
};

// The codecs themselves, and the names that Python's encodings.aliases has for them.
constexpr CodecName kCodecs[] = {{"ascii", kAscii},
                                 {"latin_1", kLatin1},
                                 {"utf_8", kUtf8},
                                 {"utf_8_sig", {Form::kUtf8, 0, false, true}},
                                 {"utf_16", {Form::kUtf16, 0, false, true}},
                                 {"utf_16_le", {Form::kUtf16, 0, false, false}},
                                 {"utf_16_be", {Form::kUtf16, 0, true, false}},
                                 {"utf_32", {Form::kUtf32, 0, false, true}},
                                 {"utf_32_le", {Form::kUtf32, 0, false, false}},
                                 {"utf_32_be", {Form::kUtf32, 0, true, false}}};
constexpr std::pair<const char*, const char*> kAliases[] = {{"646", "ascii"},
                                                            {"ansi_x3.4_1968", "ascii"},
                                                            {"ansi_x3_4_1968", "ascii"},
                                                            {"ansi_x3.4_1986", "ascii"},
                                                            {"cp367", "ascii"},
                                                            {"csascii", "ascii"},
                                                            {"ibm367", "ascii"},
                                                            {"iso646_us", "ascii"},
                                                            {"iso_646.irv_1991", "ascii"},
                                                            {"iso_ir_6", "ascii"},
                                                            {"us", "ascii"},
                                                            {"us_ascii", "ascii"},
                                                            {"8859", "latin_1"},
                                                            {"cp819", "latin_1"},
                                                            {"csisolatin1", "latin_1"},
                                                            {"ibm819", "latin_1"},
                                                            {"iso8859", "latin_1"},
                                                            {"iso8859_1", "latin_1"},
                                                            {"iso_8859_1", "latin_1"},
                                                            {"iso_8859_1_1987", "latin_1"},
                                                            {"iso_ir_100", "latin_1"},
                                                            {"l1", "latin_1"},
                                                            {"latin", "latin_1"},
                                                            {"latin1", "latin_1"},
                                                            {"u8", "utf_8"},
                                                            {"utf", "utf_8"},
                                                            {"utf8", "utf_8"},
                                                            {"utf8_ucs2", "utf_8"},
                                                            {"utf8_ucs4", "utf_8"},
                                                            {"cp65001", "utf_8"},
                                                            {"u16", "utf_16"},
                                                            {"utf16", "utf_16"},
                                                            {"unicodelittleunmarked", "utf_16_le"},
                                                            {"utf_16le", "utf_16_le"},
                                                            {"unicodebigunmarked", "utf_16_be"},
                                                            {"utf_16be", "utf_16_be"},
                                                            {"u32", "utf_32"},
                                                            {"utf32", "utf_32"},
                                                            {"utf_32le", "utf_32_le"},
                                                            {"utf_32be", "utf_32_be"}};

// As encodings.normalize_encoding: letters in lower case; whatever else stands between them is one underscore.
std::string NormalizedCodec(absl::string_view name) {
  std::string out;
  bool between = false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(c) && c != '.') {
      between = true;
      continue;
    }
    if (between && !out.empty()) out.push_back('_');
    between = false;
    out.push_back(absl::ascii_tolower(c));
  }
  return out;
}

std::optional<Codec> FindCodec(absl::string_view name) {
  constexpr size_t kLongestName = 64;
  const bool is_plain = std::all_of(name.begin(), name.end(), [](char c) { return c > 0; });
  if (name.size() > kLongestName || !is_plain) return std::nullopt;
  const std::string plain = NormalizedCodec(name);
  absl::string_view found = plain;
  for (const std::string& known_as : {absl::StrReplaceAll(plain, {{".", "_"}}), plain}) {
    for (const auto& [alias, codec] : kAliases) {
      if (known_as == alias) found = codec;
    }
  }
  for (const CodecName& known : kCodecs) {
    if (found == known.name) return known.codec;
  }
  return std::nullopt;
}

void AppendUnit(uint32_t unit, int bytes, bool big_endian, std::string& out) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(unit >> 8 * (big_endian ? bytes - 1 - i : i)));
}

void AppendUtf8(uint32_t c, std::string& out) {
  const auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | (c >> shift & 0x3f))); };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xe0 | c >> 12));
    tail(6), tail(0);
  } else {
    out.push_back(static_cast<char>(0xf0 | c >> 18));
    tail(12), tail(6), tail(0);
  }
}

void Append(const Codec& codec, uint32_t c, std::string& out) {
  switch (codec.form) {
    case Form::kBytes:
      out.push_back(static_cast<char>(c));
      break;
    case Form::kUtf8:
      AppendUtf8(c, out);
      break;
    case Form::kUtf16:
      if (c >= 0x10000) {
        AppendUnit(0xd800 + ((c - 0x10000) >> 10), 2, codec.big_endian, out);
        c = 0xdc00 + ((c - 0x10000) & 0x3ff);
      }
      AppendUnit(c, 2, codec.big_endian, out);
      break;
    case Form::kUtf32:
      AppendUnit(c, 4, codec.big_endian, out);
      break;
  }
}

absl::Status CannotEncode(absl::string_view why) {
  return MakeError(Reason::FILE_MALFORMED, absl::StrCat("a str is encoded that its codec cannot encode", why));
}

// What `errors` puts in the place of a character that the codec does not have.
absl::Status AppendReplacement(const Codec& codec, uint32_t c, absl::string_view errors, std::string& out) {
  std::string text;
  if (errors == "replace") {
    text = "?";
  } else if (errors == "xmlcharrefreplace") {
    text = absl::StrCat("&#", c, ";");
  } else if (errors == "backslashreplace" || (errors == "namereplace" && IsSurrogate(c))) {  // which have no names
    text = c < 0x100     ? absl::StrCat("\\x", absl::Hex(c, absl::kZeroPad2))
           : c < 0x10000 ? absl::StrCat("\\u", absl::Hex(c, absl::kZeroPad4))
                         : absl::StrCat("\\U", absl::Hex(c, absl::kZeroPad8));
  } else if (errors == "namereplace") {
    return MakeError(Reason::FILE_UNSUPPORTED,
                     "a str is encoded with the names of its characters (namereplace); save the bytes themselves");
  } else if (errors == "surrogatepass" && codec.form != Form::kBytes) {
    Append(codec, c, out);
  } else if (errors == "surrogateescape" && c >= 0xdc80 && c <= 0xdcff &&
             (codec.form == Form::kBytes || codec.form == Form::kUtf8)) {
    out.push_back(static_cast<char>(c - 0xdc00));
  } else if (errors != "ignore") {
    return CannotEncode("");
  }
  for (const char replaced : text) Append(codec, static_cast<uint8_t>(replaced), out);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> EncodeText(absl::string_view text, absl::string_view codec, absl::string_view errors,
                                       size_t max_bytes) {
  const std::optional<Codec> known = FindCodec(codec);
  if (!known.has_value()) {
    return MakeError(Reason::FILE_UNSUPPORTED,
                     absl::StrCat("a str is encoded by codec ", Quoted(codec, 40),
                                  "; only ascii, latin-1 and the utf ones are known; save the bytes themselves"));
  }
  std::string out;
  if (known->marked) Append(*known, 0xfeff, out);
  for (size_t at = 0; at < text.size();) {
    uint32_t c = 0;
    if (!NextCodePoint(text, at, c)) return CannotEncode(": it is not UTF-8");
    if (known->form == Form::kBytes ? c < known->end : !IsSurrogate(c)) {
      Append(*known, c, out);
    } else {
      SCONCE_RETURN_IF_ERROR(AppendReplacement(*known, c, errors, out));
    }
    if (out.size() > max_bytes)
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED, "a str is encoded into more bytes than its file may make");
  }
  return out;
}

namespace {

// How many bytes of the text are a float as Python writes them: "1.5e-3", ".5", "-inf", "NaN".
size_t FloatPrefix(absl::string_view text) {
  size_t at = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  for (const absl::string_view word : {"infinity", "inf", "nan"}) {
    if (absl::StartsWithIgnoreCase(text.substr(at), word)) return at + word.size();
  }
  const auto digits = [&] {
    const size_t before = at;
    while (at < text.size() && absl::ascii_isdigit(text[at])) ++at;
    return at - before;
  };
  size_t mantissa = digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    mantissa += digits();
  }
  if (mantissa == 0) return 0;
  const size_t end = at;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() > 0) return at;
  }
  return end;
}

// Takes a float from the front of the text.
std::optional<double> TakeFloat(absl::string_view& text) {
  const size_t size = FloatPrefix(text);
  double value = 0;
  if (size == 0 || !absl::SimpleAtod(text.substr(0, size), &value)) return std::nullopt;
  text.remove_prefix(size);
  return value;
}

bool TakeUnit(absl::string_view& text) {
  if (text.empty() || (text[0] != 'j' && text[0] != 'J')) return false;
  text.remove_prefix(1);
  return true;
}

// "+" or "-" alone, for one.
double TakeSign(absl::string_view& text) {
  const bool minus = text[0] == '-';
  text.remove_prefix(1);
  return minus ? -1.0 : 1.0;
}

bool StartsWithSign(absl::string_view text) {
  return !text.empty() && (text[0] == '+' || text[0] == '-');
}

// The text without its underscores, which may stand between digits only.
std::optional<std::string> WithoutUnderscores(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
    } else if (i == 0 || i + 1 == text.size() || !absl::ascii_isdigit(text[i - 1]) ||
               !absl::ascii_isdigit(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<std::complex<double>> ParseComplex(absl::string_view text) {
  const std::optional<std::string> plain = WithoutUnderscores(text);
  if (!plain.has_value()) return std::nullopt;
  absl::string_view rest = absl::StripAsciiWhitespace(*plain);
  if (absl::StartsWith(rest, "(")) {
    if (rest.size() < 2 || rest.back() != ')') return std::nullopt;
    rest = absl::StripAsciiWhitespace(rest.substr(1, rest.size() - 2));
  }
  double real = 0;
  double imaginary = 0;
  if (const std::optional<double> first = TakeFloat(rest); !first.has_value()) {
    imaginary = StartsWithSign(rest) ? TakeSign(rest) : 1.0;
    if (!TakeUnit(rest)) return std::nullopt;
  } else if (StartsWithSign(rest)) {
    real = *first;
    const std::optional<double> second = TakeFloat(rest);
    imaginary = second.has_value() ? *second : TakeSign(rest);
    if (!TakeUnit(rest)) return std::nullopt;
  } else if (TakeUnit(rest)) {
    imaginary = *first;
  } else {
    real = *first;
  }
  if (!rest.empty()) return std::nullopt;
  return std::complex<double>(real, imaginary);
}

double LongToDouble(absl::string_view bytes) {
  std::string magnitude(ToStd(bytes));
  const bool negative = static_cast<uint8_t>(magnitude.back()) >= 0x80;
  if (negative) {
    bool carry = true;
    for (char& c : magnitude) {
      c = static_cast<char>(~static_cast<uint8_t>(c) + (carry ? 1 : 0));
      carry = carry && c == 0;
    }
  }
  while (magnitude.size() > 8 && magnitude.back() == 0) magnitude.pop_back();
  // Its first 8 bytes have at least 57 bits, more than a float keeps; what follows them decides only between ties.
  const size_t below = magnitude.size() - 8;
  uint64_t first = 0;
  for (size_t i = magnitude.size(); i-- > below;) first = first << 8 | static_cast<uint8_t>(magnitude[i]);
  const bool has_rest = std::any_of(magnitude.begin(), magnitude.begin() + below, [](char c) { return c != 0; });
  if (has_rest) first |= 1;
  const double value = below > 1024 ? std::numeric_limits<double>::infinity()
                                    : std::ldexp(static_cast<double>(first), static_cast<int>(8 * below));
  return negative ? -value : value;
}

}  // namespace sconce::format
