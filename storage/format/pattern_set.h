#ifndef SCONCE_STORAGE_FORMAT_PATTERN_SET_H_
#define SCONCE_STORAGE_FORMAT_PATTERN_SET_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/format/glob.h"

namespace sconce::format {

// Many patterns held against every path of a walk. A pattern without wildcards is found by hashing, so a selection may
// name thousands of paths; those with wildcards are tried one after the other. Immutable.
class PatternSet {
 public:
  static constexpr size_t kNoPattern = static_cast<size_t>(-1);

  // PATTERN_INVALID as Glob.
  static absl::StatusOr<PatternSet> Compile(absl::Span<const std::string> patterns);

  bool empty() const { return literals_.empty() && globs_.empty(); }
  // The number of the first pattern without wildcards that is this very path. It means all below as well: a walk passes
  // it on.
  size_t FindLiteral(absl::string_view path) const;
  // The patterns with wildcards, with their numbers, ascending.
  const std::vector<std::pair<size_t, Glob>>& globs() const { return globs_; }
  // The number of the first of them that matches and is less than `below`.
  size_t FindGlob(absl::string_view path, size_t below = kNoPattern) const;
  // Each pattern without wildcards once, with the number it was first given at.
  const absl::flat_hash_map<std::string, size_t>& literals() const { return literals_; }

 private:
  absl::flat_hash_map<std::string, size_t> literals_;
  std::vector<std::pair<size_t, Glob>> globs_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PATTERN_SET_H_
