#ifndef SCONCE_STORAGE_FORMAT_GLOB_H_
#define SCONCE_STORAGE_FORMAT_GLOB_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sconce::format {

// A compiled pattern over paths (path.h).
//
//   *       any run of characters but "/", also none          ?        one character but "/"
//   **      any run of characters, "/" included, also none    [a-z_]   one character of a set; [!...] or [^...] one not
//   in it
//   /**/    also matches a single "/"                         [*]      how to write a literal "*", "?" or "["
//
// A pattern is written as the path it matches; a missing first "/" is added ("" stays: the root). A character is a
// Unicode code point. Immutable, thread-safe. Matching takes time proportional to (bytes of path) x (size of pattern)
// at worst.
class Glob {
 public:
  // PATTERN_INVALID for a set without end or with a range backwards, and for more than 4096 bytes.
  static absl::StatusOr<Glob> Compile(absl::string_view pattern);

  // The whole path matches. A pattern without wildcards matches that path only.
  bool Matches(absl::string_view path) const;

  // As a Selection means it: a pattern without wildcards also matches everything below that path.
  bool MatchesOrIsAbove(absl::string_view path) const;

  const std::string& pattern() const { return pattern_; }
  bool has_wildcards() const { return !tokens_.empty(); }

 private:
  enum class TokenKind : uint8_t { kLiteral, kAnyOne, kSet, kStar, kDoubleStar, kSlashes };
  struct Range {
    uint32_t first, last;
  };
  struct Token {
    TokenKind kind;
    uint32_t literal = 0;
    bool negated = false;
    std::vector<Range> ranges = {};
  };

  Glob() = default;
  static absl::StatusOr<Token> ParseSet(absl::string_view pattern, size_t& at);
  static bool Accepts(const Token& token, uint32_t c);

  std::string pattern_;
  std::string prefix_;         // literal bytes before the first wildcard; the whole pattern when there is none
  std::vector<Token> tokens_;  // what follows them
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_GLOB_H_
