#ifndef SCONCE_SERVER_SERVICES_PUSH_HEADER_H_
#define SCONCE_SERVER_SERVICES_PUSH_HEADER_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/digest.h"
#include "sconce/v1/transfer_service.pb.h"
#include "server/rpc/call.h"
#include "storage/repository/repository.h"
#include "storage/repository/types.h"

namespace sconce::services {

// What a push says about its version, checked: NAME_INVALID, ARGUMENT_INVALID.
absl::StatusOr<repository::PushOptions> PushOptionsFromProto(const rpc::CallScope& call, const v1::PushHeader& header);

// CHECKPOINT_NOT_FOUND when the run never had the version that options.parent names. One that was deleted since, as
// retention may do under a running training, is a parent all the same. May block.
absl::Status CheckParent(repository::Repository& repository, const repository::PushOptions& options);

// A SHA-256 in hex, or nullopt for "". ARGUMENT_INVALID.
absl::StatusOr<std::optional<Digest>> Sha256FromProto(const std::string& hex);
// DIGEST_MISMATCH unless they are equal. `what` was hashed: "the file".
absl::Status CheckSha256(absl::string_view what, const Digest& expected, const Digest& actual);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_PUSH_HEADER_H_
