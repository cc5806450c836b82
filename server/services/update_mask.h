#ifndef SCONCE_SERVER_SERVICES_UPDATE_MASK_H_
#define SCONCE_SERVER_SERVICES_UPDATE_MASK_H_

#include <google/protobuf/field_mask.pb.h>

#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sconce::services {

// Which of the fields `updatable` an update changes: those the mask names, all for "*", and `populated` (those set in
// the request) for an empty mask. Fields in `output_only` may be named and are ignored, so that a resource that was
// read can be written back. UPDATE_MASK_INVALID for any other.
absl::StatusOr<std::set<std::string>> FieldsToUpdate(const google::protobuf::FieldMask& mask,
                                                     absl::Span<const absl::string_view> updatable,
                                                     absl::Span<const absl::string_view> output_only,
                                                     const std::set<std::string>& populated);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_UPDATE_MASK_H_
