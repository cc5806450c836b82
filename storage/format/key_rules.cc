#include "storage/format/key_rules.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/key_pattern.h"

namespace sconce::format {
namespace {

// Characters compared for all keys and renames together: some seconds at worst.
constexpr int64_t kMaxWork = int64_t{2} << 30;

absl::Status TooMany(absl::string_view what, size_t count, size_t limit) {
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   absl::StrCat(count, " ", what, " are more than the ", limit, " that are taken"));
}

absl::Status CheckLength(absl::string_view what, const std::string& text) {
  if (text.size() <= kMaxRuleBytes) return absl::OkStatus();
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   absl::StrCat("the ", what, " ", Quoted(text, 60), " is longer than ", kMaxRuleBytes, " bytes"));
}

absl::StatusOr<std::vector<KeyPattern>> Compile(const KeyRules& rules) {
  if (rules.strip_prefixes.size() > kMaxStripPrefixes) {
    return TooMany("prefixes to take off", rules.strip_prefixes.size(), kMaxStripPrefixes);
  }
  if (rules.renames.size() > kMaxRenames) return TooMany("renames", rules.renames.size(), kMaxRenames);
  for (const std::string& prefix : rules.strip_prefixes) SCONCE_RETURN_IF_ERROR(CheckLength("prefix", prefix));
  SCONCE_RETURN_IF_ERROR(CheckLength("prefix", rules.add_prefix));
  std::vector<KeyPattern> patterns;
  for (const RenameRule& rename : rules.renames) {
    SCONCE_RETURN_IF_ERROR(CheckLength("pattern", rename.from));
    SCONCE_RETURN_IF_ERROR(CheckLength("replacement", rename.to));
    SCONCE_ASSIGN_OR_RETURN(KeyPattern pattern, KeyPattern::Compile(ToAbsl(rename.from), ToAbsl(rename.to)));
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

absl::Status CheckWork(const std::vector<KeyPattern>& patterns, absl::Span<const std::string> keys) {
  int64_t cost = 0;
  for (const KeyPattern& pattern : patterns) cost += static_cast<int64_t>(pattern.cost());
  int64_t left = kMaxWork;
  for (const std::string& key : keys) {
    if (cost == 0) break;
    const auto bytes = static_cast<int64_t>(key.size()) + 1;
    if (bytes > left / cost) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       "the renames are too many and too long for that many keys; make fewer or shorter ones");
    }
    left -= bytes * cost;
  }
  return absl::OkStatus();
}

absl::Status CheckKeyLength(const std::string& key) {
  if (key.size() <= kMaxKeyBytes) return absl::OkStatus();
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   absl::StrCat("the key ", Quoted(key, 60), " ... becomes longer than ", kMaxKeyBytes, " bytes"));
}

absl::Status CheckDistinct(absl::Span<const std::string> before, const std::vector<std::string>& after) {
  absl::flat_hash_map<absl::string_view, size_t> seen;
  seen.reserve(after.size());
  for (size_t i = 0; i < after.size(); ++i) {
    const auto [first, is_new] = seen.emplace(after[i], i);
    if (is_new) continue;
    return MakeError(
        Reason::RENAME_COLLISION,
        absl::StrCat("the keys ", Quoted(before[first->second]), " and ", Quoted(before[i]), " both become ",
                     Quoted(after[i]), "; change the prefixes or renames, or leave one out with the selection"),
        {{"first", before[first->second].substr(0, 200)},
         {"second", before[i].substr(0, 200)},
         {"key", after[i].substr(0, 200)}});
  }
  return absl::OkStatus();
}

}  // namespace

bool operator==(const KeyRules& a, const KeyRules& b) {
  const auto same = [](const RenameRule& x, const RenameRule& y) { return x.from == y.from && x.to == y.to; };
  return a.strip_prefixes == b.strip_prefixes && a.add_prefix == b.add_prefix &&
         std::equal(a.renames.begin(), a.renames.end(), b.renames.begin(), b.renames.end(), same);
}

absl::Status CheckKeyRules(const KeyRules& rules) {
  return Compile(rules).status();
}

absl::StatusOr<std::vector<std::string>> ApplyKeyRules(const KeyRules& rules, absl::Span<const std::string> keys) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<KeyPattern> patterns, Compile(rules));
  SCONCE_RETURN_IF_ERROR(CheckWork(patterns, keys));
  std::vector<std::string> result;
  result.reserve(keys.size());
  for (const std::string& original : keys) {
    std::string key = original;
    for (const std::string& prefix : rules.strip_prefixes) {
      if (key.size() > prefix.size() && absl::StartsWith(key, prefix)) key.erase(0, prefix.size());
    }
    key.insert(0, rules.add_prefix);
    for (const KeyPattern& pattern : patterns) {
      std::optional<std::string> renamed = pattern.Rename(key);
      if (!renamed.has_value()) continue;
      key = *std::move(renamed);
      SCONCE_RETURN_IF_ERROR(CheckKeyLength(key));
    }
    result.push_back(std::move(key));
  }
  SCONCE_RETURN_IF_ERROR(CheckDistinct(keys, result));
  return result;
}

}  // namespace sconce::format
