#ifndef SCONCE_STORAGE_FORMAT_KEY_RULES_H_
#define SCONCE_STORAGE_FORMAT_KEY_RULES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace sconce::format {

inline constexpr size_t kMaxStripPrefixes = 16;
inline constexpr size_t kMaxRenames = 100;
inline constexpr size_t kMaxRuleBytes = 4096;             // of a prefix, a pattern, a replacement
inline constexpr size_t kMaxKeyBytes = size_t{64} << 10;  // of a key that a rule made

// Keys that match the pattern `from` become `to`.
struct RenameRule {
  std::string from;
  std::string to;
};

// How the keys of a state_dict (`encoder.0.weight`) are changed before they are held against a module's. In this order:
//
//  1. Each of `strip_prefixes` is taken off every key that starts with it, as PyTorch's
//     consume_prefix_in_state_dict_if_present does; the others stay. A key that is no more than the prefix stays too.
//  2. `add_prefix` is put before every key.
//  3. Each of `renames` runs over all keys, as the ones before left them.
//
// A pattern is held against the whole key. `*` is any run of characters (dots and slashes too, also none), `?` one
// character, `[a-z_]` one of a set, `[!...]` or `[^...]` one that is not in it, `[*]` a literal star; a character is a
// code point. Stars take as little as they can, from the left; the last one takes what is left. In `to` the n-th `*`
// stands for what the n-th wildcard matched, `[*]` is a literal star, and everything else is itself. A pattern without
// wildcards means that key and all below it: `encoder` is `encoder` and everything that starts with `encoder.`, and
// `to` takes the place of that part.
struct KeyRules {
  std::vector<std::string> strip_prefixes;
  std::string add_prefix;
  std::vector<RenameRule> renames;

  bool empty() const { return strip_prefixes.empty() && add_prefix.empty() && renames.empty(); }
  friend bool operator==(const KeyRules& a, const KeyRules& b);
};

// Everything about rules that can be told without keys: PATTERN_INVALID for a `from` that is empty or cannot be read
// and for a `to` with more stars than `from` has wildcards; INPUT_LIMIT_EXCEEDED beyond the limits above.
absl::Status CheckKeyRules(const KeyRules& rules);

// The keys after the rules, in the same order. The errors of CheckKeyRules; RENAME_COLLISION naming both when two keys
// become the same; INPUT_LIMIT_EXCEEDED for keys that grow beyond kMaxKeyBytes, and when holding the patterns against
// all keys would take more than some seconds.
absl::StatusOr<std::vector<std::string>> ApplyKeyRules(const KeyRules& rules, absl::Span<const std::string> keys);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_KEY_RULES_H_
