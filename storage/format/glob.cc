#include "storage/format/glob.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxPatternBytes = 4096;

absl::Status Invalid(absl::string_view pattern, absl::string_view what) {
  return MakeError(Reason::PATTERN_INVALID, absl::StrCat("pattern ", Quoted(pattern), " ", what),
                   {{"pattern", std::string(pattern.substr(0, 200))}});
}

// The next character; a byte that is not UTF-8 is one of its own, beyond all of Unicode.
uint32_t NextCharacter(absl::string_view text, size_t& at) {
  uint32_t c = static_cast<uint8_t>(text[at]);
  if (c < 0x80) {
    ++at;
    return c;
  }
  if (NextCodePoint(text, at, c)) return c;
  return 0x110000U + static_cast<uint8_t>(text[at++]);
}

// A set of token numbers.
class TokenSet {
 public:
  explicit TokenSet(size_t size) : words_(size / 64 + 1) {}
  bool Has(size_t i) const { return (words_[i / 64] >> (i % 64) & 1) != 0; }
  void Add(size_t i) { words_[i / 64] |= uint64_t{1} << (i % 64); }
  void Clear() { std::fill(words_.begin(), words_.end(), 0); }
  void Swap(TokenSet& other) { words_.swap(other.words_); }
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (size_t word = 0; word < words_.size(); ++word) {
      for (uint64_t left = words_[word]; left != 0; left &= left - 1) {
        visit(64 * word + static_cast<size_t>(__builtin_ctzll(left)));
      }
    }
  }

 private:
  absl::InlinedVector<uint64_t, 2> words_;
};

}  // namespace

absl::StatusOr<Glob> Glob::Compile(absl::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return Invalid(pattern, absl::StrCat("is longer than ", kMaxPatternBytes, " bytes"));
  }
  Glob glob;
  if (!pattern.empty() && pattern[0] != '/') glob.pattern_ = "/";
  absl::StrAppend(&glob.pattern_, pattern);
  const absl::string_view text = glob.pattern_;
  size_t at = std::min(text.find_first_of("*?["), text.size());
  // "/**/" is one token, so its first "/" is not a literal.
  if (at > 0 && text[at - 1] == '/' && absl::StartsWith(text.substr(at), "**/")) --at;
  glob.prefix_ = std::string(text.substr(0, at));
  while (at < text.size()) {
    const absl::string_view rest = text.substr(at);
    if (absl::StartsWith(rest, "/**/")) {
      glob.tokens_.push_back({TokenKind::kSlashes});
      while (absl::StartsWith(text.substr(at), "/**/")) at += 3;  // "/**/**/" says no more
      ++at;
    } else if (absl::StartsWith(rest, "**")) {
      glob.tokens_.push_back({TokenKind::kDoubleStar});
      while (at < text.size() && text[at] == '*') ++at;
    } else if (rest[0] == '*') {
      glob.tokens_.push_back({TokenKind::kStar});
      ++at;
    } else if (rest[0] == '?') {
      glob.tokens_.push_back({TokenKind::kAnyOne});
      ++at;
    } else if (rest[0] == '[') {
      SCONCE_ASSIGN_OR_RETURN(Token set, ParseSet(text, at));
      glob.tokens_.push_back(std::move(set));
    } else {
      Token literal{TokenKind::kLiteral};
      literal.literal = NextCharacter(text, at);
      glob.tokens_.push_back(std::move(literal));
    }
  }
  return glob;
}

absl::StatusOr<Glob::Token> Glob::ParseSet(absl::string_view pattern, size_t& at) {
  Token set{TokenKind::kSet};
  ++at;  // "["
  if (at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^')) {
    set.negated = true;
    ++at;
  }
  for (bool first = true;; first = false) {
    if (at >= pattern.size()) return Invalid(pattern, "has a \"[\" without its \"]\"; write \"[[]\" for a literal one");
    if (pattern[at] == ']' && !first) break;
    Range range;
    range.first = range.last = NextCharacter(pattern, at);
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      ++at;
      range.last = NextCharacter(pattern, at);
      if (range.last < range.first) return Invalid(pattern, "has a range in \"[]\" that runs backwards");
    }
    set.ranges.push_back(range);
  }
  ++at;  // "]"
  return set;
}

bool Glob::Accepts(const Token& token, uint32_t c) {
  if (token.kind == TokenKind::kLiteral) return c == token.literal;
  if (token.kind == TokenKind::kDoubleStar || token.kind == TokenKind::kSlashes) return true;
  if (c == '/') return false;
  if (token.kind != TokenKind::kSet) return true;
  const bool inside = std::any_of(token.ranges.begin(), token.ranges.end(),
                                  [c](const Range& range) { return range.first <= c && c <= range.last; });
  return inside != token.negated;
}

// Runs all ways to match at once: `now` holds the tokens that could come next. So every character of the path is looked
// at once per token, whatever the pattern.
//
// kSlashes needs a "/" at its start and one at its end, which may be the same: a "/" begins it, and it stays `begun`;
// any "/" from that one on may be its end.
bool Glob::Matches(absl::string_view path) const {
  if (!absl::StartsWith(path, prefix_)) return false;
  if (tokens_.empty()) return path.size() == prefix_.size();
  const size_t count = tokens_.size();
  TokenSet now(count);
  TokenSet next(count);
  TokenSet begun(count);
  // A star also matches nothing: with a token, what follows its run of stars could come next as well.
  const auto add = [&](TokenSet& set, size_t token) {
    for (; !set.Has(token); ++token) {
      set.Add(token);
      if (token == count) return;
      if (tokens_[token].kind != TokenKind::kStar && tokens_[token].kind != TokenKind::kDoubleStar) return;
    }
  };
  add(now, 0);
  for (size_t at = prefix_.size(); at < path.size();) {
    const uint32_t c = NextCharacter(path, at);
    next.Clear();
    now.ForEach([&](size_t token) {
      if (token == count || !Accepts(tokens_[token], c)) return;
      switch (tokens_[token].kind) {
        case TokenKind::kSlashes:
          if (c == '/') begun.Add(token);
          break;
        case TokenKind::kStar:
        case TokenKind::kDoubleStar:
          add(next, token);
          break;
        default:
          add(next, token + 1);
      }
    });
    if (c == '/') begun.ForEach([&](size_t token) { add(next, token + 1); });
    now.Swap(next);
  }
  return now.Has(count);
}

bool Glob::MatchesOrIsAbove(absl::string_view path) const {
  if (has_wildcards()) return Matches(path);
  return absl::StartsWith(path, prefix_) && (path.size() == prefix_.size() || path[prefix_.size()] == '/');
}

}  // namespace sconce::format
