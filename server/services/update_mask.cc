#include "server/services/update_mask.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/strings.h"

namespace sconce::services {

absl::StatusOr<std::set<std::string>> FieldsToUpdate(const google::protobuf::FieldMask& mask,
                                                     absl::Span<const absl::string_view> updatable,
                                                     absl::Span<const absl::string_view> output_only,
                                                     const std::set<std::string>& populated) {
  if (mask.paths().empty()) return populated;
  const auto contains = [](absl::Span<const absl::string_view> names, absl::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  std::set<std::string> fields;
  for (const std::string& path : mask.paths()) {
    if (path == "*") {
      for (const absl::string_view name : updatable) fields.emplace(name);
    } else if (contains(updatable, path)) {
      fields.insert(path);
    } else if (!contains(output_only, path)) {
      return MakeError(Reason::UPDATE_MASK_INVALID,
                       absl::StrCat("update_mask names ", Quoted(path), ", which cannot be updated; give ",
                                    absl::StrJoin(updatable, ", "), " or *"),
                       {{"path", path}});
    }
  }
  return fields;
}

}  // namespace sconce::services
