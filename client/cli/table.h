#ifndef SCONCE_CLIENT_CLI_TABLE_H_
#define SCONCE_CLIENT_CLI_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sconce::cli {

enum class Align { kLeft, kRight };

// Columns lined up for a person: a header in capitals, two spaces between columns, numbers to the right, no trailing
// spaces.
class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void AddRow(std::vector<std::string> cells);  // as many as there are columns
  bool empty() const { return rows_.empty(); }
  std::string Render() const;

 private:
  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// How many columns a terminal needs for UTF-8 text: code points, without combining marks told apart.
size_t DisplayWidth(absl::string_view text);
// "just now", "5 min ago", "3 h ago", "2 d ago", else the date.
std::string HumanAge(absl::Time then, absl::Time now);
// 1234567 as "1,234,567".
std::string Grouped(int64_t value);
// As short as reads well: "0.0312", "12.5", "nan".
std::string ShortNumber(double value);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_TABLE_H_
