#ifndef SCONCE_STORAGE_FORMAT_KEY_PATTERN_H_
#define SCONCE_STORAGE_FORMAT_KEY_PATTERN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sconce::format {

// The pattern of a rename (key_rules.h), compiled: what it matches, and what the key becomes. Immutable.
class KeyPattern {
 public:
  // The errors of CheckKeyRules.
  static absl::StatusOr<KeyPattern> Compile(absl::string_view from, absl::string_view to);

  // What `key` becomes; nullopt when it does not match. Takes time proportional to cost() x bytes of key at worst, and
  // usually to the bytes of the key alone: a star never has to be tried twice, since it matches anything.
  std::optional<std::string> Rename(absl::string_view key) const;

  // Single characters the pattern looks for, and 1.
  size_t cost() const { return cost_; }

 private:
  struct Range {
    uint32_t first, last;
  };
  // One character of a pattern. "?" is "not one of none".
  struct Unit {
    bool wildcard = false;  // its character counts as what a wildcard matched
    bool negated = false;
    std::vector<Range> ranges;
  };
  using Piece = std::vector<Unit>;  // what stands between two stars
  struct Span {                     // of characters of a key
    size_t begin, end;
  };

  KeyPattern() = default;
  static absl::StatusOr<Unit> ParseSet(absl::string_view pattern, size_t& at);
  static bool Accepts(const Unit& unit, uint32_t c);
  absl::Status CompileReplacement(absl::string_view from, absl::string_view to);
  // Whether `piece` matches at `begin`; what its wildcards matched is then appended.
  static bool MatchPiece(const Piece& piece, const std::vector<uint32_t>& key, size_t begin,
                         std::vector<Span>& wildcards);
  // What each wildcard matched.
  std::optional<std::vector<Span>> Match(const std::vector<uint32_t>& key) const;

  std::string literal_;        // the pattern, when it has no wildcards
  std::vector<Piece> pieces_;  // otherwise: one more than there are stars
  size_t wildcards_ = 0;
  std::vector<std::string> texts_;  // of the replacement, between its stars
  size_t cost_ = 1;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_KEY_PATTERN_H_
