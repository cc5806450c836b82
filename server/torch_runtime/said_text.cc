#include "server/torch_runtime/said_text.h"

#include <algorithm>
#include <iostream>
#include <utility>

#include "absl/strings/str_split.h"
#include "server/torch_runtime/thrown.h"

namespace sconce::torch_runtime {
namespace {

constexpr size_t kMaxBytes = size_t{16} << 10;

}  // namespace

SaidText::SaidText() : before_(std::cerr.rdbuf(this)) {}

SaidText::~SaidText() {
  std::cerr.rdbuf(before_);
}

std::string SaidText::Take() {
  const std::lock_guard<std::mutex> lock(mu_);
  return std::exchange(text_, std::string());
}

std::streamsize SaidText::xsputn(const char* text, std::streamsize count) {
  const std::lock_guard<std::mutex> lock(mu_);
  text_.append(text, std::min(static_cast<size_t>(count), kMaxBytes - std::min(kMaxBytes, text_.size())));
  return count;
}

SaidText::int_type SaidText::overflow(int_type c) {
  if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
  const char one = traits_type::to_char_type(c);
  xsputn(&one, 1);
  return c;
}

std::string CauseOf(absl::string_view said, absl::string_view thrown) {
  constexpr absl::string_view kMarks[] = {"Exception in aoti_torch: ", "Error: "};
  for (const absl::string_view mark : kMarks) {
    for (const absl::string_view line : absl::StrSplit(said, '\n')) {
      const size_t at = line.find(mark);
      if (at != absl::string_view::npos) return EssentialLine(line.substr(at + mark.size()));
    }
  }
  return EssentialLine(thrown);
}

}  // namespace sconce::torch_runtime
