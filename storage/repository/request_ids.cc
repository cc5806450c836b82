#include "storage/repository/request_ids.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/catalog/keys.h"
#include "storage/repository/lookup.h"

namespace sconce::repository {
namespace {

// Fields one after the other, each with its length, so that different requests never have the same text.
class BodyText {
 public:
  BodyText& Add(absl::string_view field) {
    absl::StrAppend(&text_, field.size(), ":", field, ",");
    return *this;
  }
  BodyText& Add(int64_t value) { return Add(absl::StrCat(value)); }
  BodyText& Add(std::optional<int64_t> value) { return Add(value ? absl::StrCat(*value) : "-"); }
  BodyText& Add(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return Add(absl::StrCat(bits));
  }
  BodyText& Add(const Labels& labels) {
    Add(static_cast<int64_t>(labels.size()));
    for (const auto& [key, value] : labels) Add(key).Add(value);
    return *this;
  }
  Digest Hash() const { return Sha256(AsBytes(text_)); }

 private:
  std::string text_;
};

}  // namespace

Digest PushBody(const PushOptions& options, const Digest& manifest) {
  BodyText body;
  body.Add(options.run.project).Add(options.run.run).Add(static_cast<int64_t>(options.kind));
  body.Add(options.epoch).Add(options.step).Add(options.labels).Add(options.parent);
  body.Add(static_cast<int64_t>(options.pinned));
  body.Add(static_cast<int64_t>(options.metrics.size()));
  for (const auto& [name, value] : options.metrics) body.Add(name).Add(value);
  // Only when given: a request of an older release has the same digest.
  if (options.expire_time) body.Add("expires").Add(absl::ToUnixNanos(*options.expire_time));
  return body.Add(manifest.AsKey()).Hash();
}

Digest CreateRunBody(const RunName& name, const Labels& labels, const BestRule& best, const RetentionRule& retention) {
  BodyText body;
  body.Add(name.project).Add(name.run).Add(labels).Add(best.metric).Add(static_cast<int64_t>(best.goal));
  body.Add(retention.keep_last).Add(retention.keep_best).Add(retention.keep_every_steps);
  return body.Add(absl::ToInt64Nanoseconds(retention.keep_younger_than)).Hash();
}

absl::StatusOr<std::optional<records::RequestRecord>> ClaimRequest(const catalog::CatalogReader& reader,
                                                                   uint64_t project_uid, const RequestKey& request,
                                                                   const Digest& body, int64_t now_ns,
                                                                   records::RequestRecord answer,
                                                                   catalog::ChangeSet& change) {
  if (request.request_id.empty()) return std::nullopt;
  const std::string key = catalog::RequestIdKey(project_uid, request.principal, request.method, request.request_id);
  SCONCE_ASSIGN_OR_RETURN(auto found, ReadRecord<records::RequestRecord>(reader, key));
  if (found && now_ns - found->record.time_ns() < absl::ToInt64Nanoseconds(kRequestIdLifetime)) {
    // Empty: from a footer that did not have it (records.proto).
    if (found->record.body_digest().empty() || found->record.body_digest() == body.AsKey())
      return std::move(found->record);
    return MakeError(Reason::REQUEST_ID_REUSED,
                     absl::StrCat("the request id ", Quoted(request.request_id),
                                  " was used within 24 hours for a request with other content; use a new one"),
                     {{"request_id", request.request_id}});
  }
  answer.set_body_digest(body.AsKey().data(), body.AsKey().size());
  answer.set_time_ns(now_ns);
  change.conditions.push_back({key, found ? std::optional<std::string>(found->bytes) : std::nullopt});
  change.puts.emplace_back(key, answer.SerializeAsString());
  return std::nullopt;
}

}  // namespace sconce::repository
