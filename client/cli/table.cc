#include "client/cli/table.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/check.h"

namespace sconce::cli {

size_t DisplayWidth(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

void Table::AddRow(std::vector<std::string> cells) {
  SCONCE_CHECK(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::Render() const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = DisplayWidth(columns_[i].title);
    for (const auto& row : rows_) width = std::max(width, DisplayWidth(row[i]));
    widths.push_back(width);
  }
  std::string out;
  const auto append = [&](const auto& cell_text) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& text = cell_text(i);
      const std::string padding(widths[i] - DisplayWidth(text), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].align == Align::kRight ? padding + text : text + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  };
  append([&](size_t i) -> const std::string& { return columns_[i].title; });
  for (const auto& row : rows_) append([&](size_t i) -> const std::string& { return row[i]; });
  return out;
}

std::string HumanAge(absl::Time then, absl::Time now) {
  const absl::Duration age = now - then;
  if (age < absl::Minutes(1)) return "just now";
  if (age < absl::Hours(1)) return absl::StrCat(age / absl::Minutes(1), " min ago");
  if (age < absl::Hours(48)) return absl::StrCat(age / absl::Hours(1), " h ago");
  if (age < absl::Hours(24 * 30)) return absl::StrCat(age / absl::Hours(24), " d ago");
  return absl::FormatTime("%Y-%m-%d", then, absl::UTCTimeZone());
}

std::string Grouped(int64_t value) {
  std::string digits = absl::StrCat(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) digits.insert(i -= 3, ",");
  return digits;
}

std::string ShortNumber(double value) {
  if (std::isnan(value)) return "nan";
  return absl::StrFormat("%.5g", value);
}

}  // namespace sconce::cli
