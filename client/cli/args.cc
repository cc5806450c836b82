#include "client/cli/args.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace sconce::cli {
namespace {

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

absl::Status UnknownOption(const std::vector<Option>& options, const std::string& word, const std::string& name) {
  const Option* nearest = nullptr;
  size_t distance = 3;
  for (const Option& option : options) {
    const size_t d = EditDistance(option.name, name);
    if (d < distance) {
      distance = d;
      nearest = &option;
    }
  }
  return MakeError(Reason::ARGUMENT_INVALID,
                   absl::StrCat("unknown option ", word,
                                nearest != nullptr ? absl::StrCat("; did you mean --", nearest->name, "?") : ""));
}

}  // namespace

std::string Args::Get(const std::string& option, const std::string& otherwise) const {
  const auto found = values_.find(option);
  return found == values_.end() ? otherwise : found->second.back();
}

std::vector<std::string> Args::All(const std::string& option) const {
  const auto found = values_.find(option);
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

absl::StatusOr<std::optional<int64_t>> Args::GetInt(const std::string& option) const {
  if (!Has(option)) return std::optional<int64_t>();
  int64_t value = 0;
  if (!absl::SimpleAtoi(Get(option), &value)) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("--", option, " takes an integer, not ", Quoted(Get(option))));
  }
  return std::optional<int64_t>(value);
}

absl::StatusOr<Args> ParseArgs(const std::vector<Option>& options, const std::vector<std::string>& words) {
  Args args;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") {
      args.positional_.insert(args.positional_.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      break;
    }
    if (word.size() < 2 || word[0] != '-') {  // "-" alone is a word: standard output
      args.positional_.push_back(word);
      continue;
    }
    const bool is_long = word[1] == '-';
    std::string name = word.substr(is_long ? 2 : 1);
    std::optional<std::string> value;
    if (const size_t equals = name.find('='); is_long && equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    const auto option = std::find_if(options.begin(), options.end(), [&](const Option& o) {
      return is_long ? o.name == name : o.letter != 0 && name == std::string(1, o.letter);
    });
    if (option == options.end()) return UnknownOption(options, word, name);
    if (option->value_name.empty()) {
      if (value) return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("--", option->name, " takes no value"));
      value = "";
    } else if (!value) {
      if (i + 1 == words.size()) {
        return MakeError(Reason::ARGUMENT_INVALID,
                         absl::StrCat(word, " needs a value: ", word, " ", option->value_name));
      }
      value = words[++i];
    }
    std::vector<std::string>& values = args.values_[option->name];
    if (!values.empty() && !option->repeatable) {
      return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("--", option->name, " was given twice"));
    }
    values.push_back(*std::move(value));
  }
  return args;
}

absl::StatusOr<std::pair<std::string, std::string>> SplitPair(absl::string_view option, absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("--", option, " takes KEY=VALUE, not ", Quoted(text)));
  }
  return std::make_pair(std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)));
}

}  // namespace sconce::cli
