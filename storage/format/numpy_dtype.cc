#include "storage/format/numpy_dtype.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace sconce::format {
namespace {

bool IsOneOf(int64_t size, std::initializer_list<int64_t> sizes) {
  return std::find(sizes.begin(), sizes.end(), size) != sizes.end();
}

bool SizeFits(char kind, int64_t size) {
  switch (kind) {
    case 'b':
      return size == 1;
    case 'i':
    case 'u':
      return IsOneOf(size, {1, 2, 4, 8});
    case 'f':
      return IsOneOf(size, {2, 4, 8, 16});
    case 'c':
      return IsOneOf(size, {8, 16, 32});
    case 'M':
    case 'm':
      return size == 8;
    case 'S':
    case 'U':
    case 'V':
      return true;
    default:
      return false;
  }
}

}  // namespace

std::optional<NumpyDtype> ParseNumpyDtype(absl::string_view text) {
  NumpyDtype dtype;
  if (text.size() < 3 || text.size() > 32) return std::nullopt;
  if (text[0] != '<' && text[0] != '>' && text[0] != '|') return std::nullopt;
  dtype.byte_order = text[0];
  dtype.kind = text[1];
  absl::string_view rest = text.substr(2);
  size_t digits = 0;
  while (digits < rest.size() && absl::ascii_isdigit(static_cast<unsigned char>(rest[digits]))) ++digits;
  const absl::string_view unit = rest.substr(digits);  // "[ns]" of a date
  const bool dated = dtype.kind == 'M' || dtype.kind == 'm';
  if (!unit.empty() && (!dated || unit.size() < 3 || unit.front() != '[' || unit.back() != ']')) return std::nullopt;
  int32_t size = 0;
  if (!absl::SimpleAtoi(rest.substr(0, digits), &size) || !SizeFits(dtype.kind, size)) return std::nullopt;
  dtype.item_bytes = dtype.kind == 'U' ? int64_t{4} * size : size;
  return dtype;
}

}  // namespace sconce::format
