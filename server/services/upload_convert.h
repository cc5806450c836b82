#ifndef SCONCE_SERVER_SERVICES_UPLOAD_CONVERT_H_
#define SCONCE_SERVER_SERVICES_UPLOAD_CONVERT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "sconce/v1/transfer_service.pb.h"
#include "storage/repository/repository.h"

// The types of uploads and their messages.
namespace sconce::services {

// `projects/.../uploads/{upload}`. NAME_INVALID.
absl::StatusOr<repository::UploadRef> UploadRefFromName(absl::string_view name);

// At most kMaxChunkRanges ranges in all, so that the answer stays below what default clients accept.
v1::Upload ToProto(const repository::Upload& upload);

inline constexpr size_t kMaxChunkRanges = 100'000;
// Appends the first `limit` of them.
void AddRanges(const std::vector<repository::ChunkRange>& ranges, size_t limit,
               google::protobuf::RepeatedPtrField<v1::ChunkRange>& out);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_UPLOAD_CONVERT_H_
