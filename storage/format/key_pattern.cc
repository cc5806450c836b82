#include "storage/format/key_pattern.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/key_rules.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

absl::Status Invalid(absl::string_view what, absl::string_view text, absl::string_view why) {
  return MakeError(Reason::PATTERN_INVALID, absl::StrCat("the ", what, " ", Quoted(text), " ", why),
                   {{"pattern", std::string(text.substr(0, 200))}});
}

// The next character; a byte that is not UTF-8 is one of its own, beyond all of Unicode.
uint32_t NextCharacter(absl::string_view text, size_t& at) {
  uint32_t c = static_cast<uint8_t>(text[at]);
  if (c >= 0x80) {
    if (NextCodePoint(text, at, c)) return c;
    c = 0x110000U + static_cast<uint8_t>(text[at]);
  }
  ++at;
  return c;
}

}  // namespace

absl::StatusOr<KeyPattern> KeyPattern::Compile(absl::string_view from, absl::string_view to) {
  if (from.empty()) {
    return Invalid("pattern", from, "of a rename is empty; name the keys to rename, \"*\" is all of them");
  }
  KeyPattern pattern;
  if (from.find_first_of("*?[") == absl::string_view::npos) {
    pattern.literal_ = std::string(from);
  } else {
    pattern.pieces_.emplace_back();
    for (size_t at = 0; at < from.size();) {
      if (from[at] == '*') {
        while (at < from.size() && from[at] == '*') ++at;  // "**" says no more than "*"
        ++pattern.wildcards_;
        pattern.pieces_.emplace_back();
        continue;
      }
      Unit unit;
      if (from[at] == '?') {
        unit = {true, true, {}};
        ++at;
      } else if (from[at] == '[') {
        SCONCE_ASSIGN_OR_RETURN(unit, ParseSet(from, at));
      } else {
        const uint32_t c = NextCharacter(from, at);
        unit.ranges.push_back({c, c});
      }
      if (unit.wildcard) ++pattern.wildcards_;
      pattern.cost_ += 1 + unit.ranges.size();
      pattern.pieces_.back().push_back(std::move(unit));
    }
  }
  SCONCE_RETURN_IF_ERROR(pattern.CompileReplacement(from, to));
  return pattern;
}

absl::StatusOr<KeyPattern::Unit> KeyPattern::ParseSet(absl::string_view pattern, size_t& at) {
  Unit set;
  ++at;  // "["
  if (at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^')) {
    set.negated = true;
    ++at;
  }
  for (bool first = true;; first = false) {
    if (at >= pattern.size()) {
      return Invalid("pattern", pattern, "has a \"[\" without its \"]\"; write \"[[]\" for a literal one");
    }
    if (pattern[at] == ']' && !first) break;
    Range range{};
    range.first = range.last = NextCharacter(pattern, at);
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      ++at;
      range.last = NextCharacter(pattern, at);
      if (range.last < range.first) {
        return Invalid("pattern", pattern, "has a range in \"[]\" that runs backwards");
      }
    }
    set.ranges.push_back(range);
  }
  ++at;  // "]"
  // A set of one character is how a special one is written: it is no choice, so nothing is to be repeated of it.
  set.wildcard = set.negated || set.ranges.size() > 1 || set.ranges[0].first != set.ranges[0].last;
  return set;
}

absl::Status KeyPattern::CompileReplacement(absl::string_view from, absl::string_view to) {
  texts_.emplace_back();
  for (size_t at = 0; at < to.size();) {
    if (absl::StartsWith(to.substr(at), "[*]")) {
      texts_.back() += '*';
      at += 3;
    } else if (to[at] == '*') {
      texts_.emplace_back();
      ++at;
    } else {
      texts_.back() += to[at++];
    }
  }
  if (texts_.size() - 1 <= wildcards_) return absl::OkStatus();
  return Invalid("replacement", to,
                 absl::StrCat("has ", texts_.size() - 1, " stars, and its pattern ", Quoted(from), " has ", wildcards_,
                              " wildcards to take them from; write \"[*]\" for a literal star"));
}

bool KeyPattern::Accepts(const Unit& unit, uint32_t c) {
  const bool inside = std::any_of(unit.ranges.begin(), unit.ranges.end(),
                                  [c](const Range& range) { return range.first <= c && c <= range.last; });
  return inside != unit.negated;
}

bool KeyPattern::MatchPiece(const Piece& piece, const std::vector<uint32_t>& key, size_t begin,
                            std::vector<Span>& wildcards) {
  if (piece.size() > key.size() - begin) return false;
  for (size_t i = 0; i < piece.size(); ++i) {
    if (!Accepts(piece[i], key[begin + i])) return false;
  }
  for (size_t i = 0; i < piece.size(); ++i) {
    if (piece[i].wildcard) wildcards.push_back({begin + i, begin + i + 1});
  }
  return true;
}

// The first piece stands at the start, the last one at the end, and each of the others as far to the left as it can:
// taking it further to the right never helps those after it.
std::optional<std::vector<KeyPattern::Span>> KeyPattern::Match(const std::vector<uint32_t>& key) const {
  std::vector<Span> wildcards;
  if (!MatchPiece(pieces_[0], key, 0, wildcards)) return std::nullopt;
  size_t at = pieces_[0].size();
  const Piece& last = pieces_.back();
  if (pieces_.size() == 1) return at == key.size() ? std::make_optional(std::move(wildcards)) : std::nullopt;
  for (size_t i = 1; i + 1 < pieces_.size(); ++i) {
    const size_t star = wildcards.size();
    wildcards.push_back({at, at});
    while (!MatchPiece(pieces_[i], key, wildcards[star].end, wildcards)) {
      if (wildcards[star].end == key.size()) return std::nullopt;
      ++wildcards[star].end;
    }
    at = wildcards[star].end + pieces_[i].size();
  }
  if (last.size() > key.size() - at) return std::nullopt;
  wildcards.push_back({at, key.size() - last.size()});
  if (!MatchPiece(last, key, key.size() - last.size(), wildcards)) return std::nullopt;
  return wildcards;
}

std::optional<std::string> KeyPattern::Rename(absl::string_view key) const {
  if (pieces_.empty()) {
    if (!absl::StartsWith(key, literal_)) return std::nullopt;
    const absl::string_view rest = key.substr(literal_.size());
    if (!rest.empty() && rest[0] != '.') return std::nullopt;
    return absl::StrCat(texts_[0], rest);
  }
  std::vector<uint32_t> characters;
  std::vector<size_t> offsets;  // of each of them, and of the end
  for (size_t at = 0; at < key.size();) {
    offsets.push_back(at);
    characters.push_back(NextCharacter(key, at));
  }
  offsets.push_back(key.size());
  const std::optional<std::vector<Span>> wildcards = Match(characters);
  if (!wildcards.has_value()) return std::nullopt;
  std::string renamed = texts_[0];
  for (size_t i = 1; i < texts_.size(); ++i) {
    const size_t begin = offsets[(*wildcards)[i - 1].begin];
    const size_t end = offsets[(*wildcards)[i - 1].end];
    absl::StrAppend(&renamed, key.substr(begin, end - begin), texts_[i]);
  }
  return renamed;
}

}  // namespace sconce::format
