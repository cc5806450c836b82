#ifndef SCONCE_STORAGE_REPOSITORY_REQUEST_IDS_H_
#define SCONCE_STORAGE_REPOSITORY_REQUEST_IDS_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/types.h"

// A retried request gets the first one's answer (DESIGN.md invariant 6).
namespace sconce::repository {

inline constexpr absl::Duration kRequestIdLifetime = absl::Hours(24);

// SHA-256 of what a push asks for: the attributes as given and the manifest.
Digest PushBody(const PushOptions& options, const Digest& manifest);
Digest CreateRunBody(const RunName& name, const Labels& labels, const BestRule& best, const RetentionRule& retention);

// Looks the request up. When it was answered within kRequestIdLifetime, the record of the answer; REQUEST_ID_REUSED
// when that was for another body. Otherwise nullopt, and the batch gets the condition that this is still so and, with
// `answer` (body and time are filled in here), the record. A request without an id is never repeated.
absl::StatusOr<std::optional<records::RequestRecord>> ClaimRequest(const catalog::CatalogReader& reader,
                                                                   uint64_t project_uid, const RequestKey& request,
                                                                   const Digest& body, int64_t now_ns,
                                                                   records::RequestRecord answer,
                                                                   catalog::ChangeSet& change);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_REQUEST_IDS_H_
