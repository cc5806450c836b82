#include "storage/format/pattern_set.h"

#include "base/status_macros.h"

namespace sconce::format {

absl::StatusOr<PatternSet> PatternSet::Compile(absl::Span<const std::string> patterns) {
  PatternSet set;
  for (size_t i = 0; i < patterns.size(); ++i) {
    SCONCE_ASSIGN_OR_RETURN(Glob glob, Glob::Compile(patterns[i]));
    if (glob.has_wildcards()) {
      set.globs_.emplace_back(i, std::move(glob));
    } else {
      set.literals_.emplace(glob.pattern(), i);
    }
  }
  return set;
}

size_t PatternSet::FindLiteral(absl::string_view path) const {
  const auto it = literals_.find(path);
  return it == literals_.end() ? kNoPattern : it->second;
}

size_t PatternSet::FindGlob(absl::string_view path, size_t below) const {
  for (const auto& [number, glob] : globs_) {
    if (number >= below) break;
    if (glob.Matches(path)) return number;
  }
  return kNoPattern;
}

}  // namespace sconce::format
