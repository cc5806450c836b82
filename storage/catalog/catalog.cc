#include "storage/catalog/catalog.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/strings.h"

namespace sconce::catalog {
namespace {

constexpr char kPayloadUrl[] = "sconce.catalog.FailedConditionKey";
constexpr char kUndecidedUrl[] = "sconce.catalog.Undecided";

}  // namespace

absl::Status ConditionFailed(absl::string_view key) {
  absl::Status status = absl::AbortedError(absl::StrCat("the catalog's record ", Quoted(key), " is not as expected"));
  status.SetPayload(kPayloadUrl, absl::Cord(key));
  return status;
}

absl::Status Catalog::Checkpoint(const std::string&) {
  return MakeError(Reason::NOT_IMPLEMENTED, "this catalog is kept in no directory");
}

std::optional<std::string> FailedConditionKey(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  if (!payload) return std::nullopt;
  return std::string(*payload);
}

absl::Status Undecided(absl::Status status) {
  status.SetPayload(kUndecidedUrl, absl::Cord());
  return status;
}

bool MayBeApplied(const absl::Status& status) {
  return status.GetPayload(kUndecidedUrl).has_value();
}

}  // namespace sconce::catalog
