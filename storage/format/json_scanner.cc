#include "storage/format/json_scanner.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

void AppendUtf8(uint32_t code_point, std::string& out) {
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
    return;
  }
  const int more = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  constexpr uint32_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out.push_back(static_cast<char>(kLead[more] | code_point >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) out.push_back(static_cast<char>(0x80 | (code_point >> (6 * i) & 0x3f)));
}

}  // namespace

absl::Status JsonScanner::Malformed(absl::string_view what) const {
  return MakeError(Reason::FILE_MALFORMED, absl::StrCat("header, byte ", at_, ": ", what, "; write the file again"));
}

void JsonScanner::SkipSpace() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
    ++at_;
}

bool JsonScanner::Take(char c) {
  SkipSpace();
  if (at_ == text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

absl::Status JsonScanner::Expect(char c) {
  if (Take(c)) return absl::OkStatus();
  return Malformed(absl::StrCat("'", absl::string_view(&c, 1), "' is missing"));
}

bool JsonScanner::TakeWord(absl::string_view word) {
  SkipSpace();
  if (!absl::StartsWith(text_.substr(at_), word)) return false;
  at_ += word.size();
  return true;
}

bool JsonScanner::AtEnd() {
  SkipSpace();
  return at_ == text_.size();
}

absl::StatusOr<std::string> JsonScanner::String() {
  SCONCE_RETURN_IF_ERROR(Expect('"'));
  std::string out;
  while (at_ < text_.size() && text_[at_] != '"') {
    if (text_[at_] == '\\') {
      ++at_;
      SCONCE_RETURN_IF_ERROR(Escape(out));
      continue;
    }
    if (static_cast<uint8_t>(text_[at_]) < 0x20) return Malformed("a control character in a string");
    out.push_back(text_[at_++]);
  }
  if (at_ == text_.size()) return Malformed("a string does not end");
  ++at_;
  if (!IsUtf8(out, /*allow_surrogates=*/false)) return Malformed("a string is not UTF-8");
  return out;
}

absl::Status JsonScanner::Escape(std::string& out) {
  if (at_ == text_.size()) return Malformed("a string does not end");
  const char c = text_[at_++];
  constexpr absl::string_view kEscaped = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
  if (const size_t i = kEscaped.find(c); i != absl::string_view::npos) {
    out.push_back(kMeant[i]);
    return absl::OkStatus();
  }
  if (c != 'u') return Malformed("an unknown escape in a string");
  SCONCE_ASSIGN_OR_RETURN(uint32_t code_point, Hex4());
  if (IsSurrogate(code_point)) {
    if (code_point >= 0xdc00 || text_.substr(at_, 2) != "\\u") return Malformed("half a surrogate pair");
    at_ += 2;
    SCONCE_ASSIGN_OR_RETURN(const uint32_t low, Hex4());
    if (low < 0xdc00 || low > 0xdfff) return Malformed("half a surrogate pair");
    code_point = 0x10000 + ((code_point - 0xd800) << 10) + (low - 0xdc00);
  }
  AppendUtf8(code_point, out);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> JsonScanner::Hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    if (at_ == text_.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text_[at_])))
      return Malformed("four hexadecimal digits are missing");
    const char c = absl::ascii_tolower(static_cast<unsigned char>(text_[at_]));
    value = value << 4 | static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return value;
}

absl::StatusOr<int64_t> JsonScanner::Integer() {
  SkipSpace();
  const size_t start = at_;
  int64_t value = 0;
  while (at_ < text_.size() && absl::ascii_isdigit(static_cast<unsigned char>(text_[at_]))) {
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text_[at_] - '0', &value))
      return Malformed("a number is beyond 64 bits");
    ++at_;
  }
  if (at_ == start) return Malformed("a whole number of at least 0 is missing");
  if (text_[start] == '0' && at_ - start > 1) return Malformed("a number starts with 0");
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E'))
    return Malformed("a whole number is missing");
  return value;
}

void AppendJsonString(absl::string_view text, std::string& out) {
  out.push_back('"');
  for (const char c : text) {
    constexpr absl::string_view kPlain = "\"\\\b\f\n\r\t", kLetter = "\"\\bfnrt";
    if (const size_t i = kPlain.find(c); i != absl::string_view::npos) {
      out.push_back('\\');
      out.push_back(kLetter[i]);
    } else if (static_cast<uint8_t>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned>(c));
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

}  // namespace sconce::format
