#ifndef SCONCE_PROTO_WIRE_PAGE_TOKEN_H_
#define SCONCE_PROTO_WIRE_PAGE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace google::protobuf {
class Message;
}

// Where a list call goes on, opaque to clients. A token belongs to one request: it carries a hash of the request's
// other fields, page_size left out, and a checksum.
namespace sconce::wire {

// The token with which `request` continues at `start`; "" for the end, "".
std::string EncodePageToken(const google::protobuf::Message& request, absl::string_view start);

// What `request.page_token` says; "" for none. PAGE_TOKEN_INVALID for one that was damaged or belongs to another
// request. Requires fields `page_token` and `page_size`.
absl::StatusOr<std::string> DecodePageToken(const google::protobuf::Message& request);

// `page_size` of a request, as promised: 0 is 50, more than 1000 is 1000, ARGUMENT_INVALID when negative.
absl::StatusOr<int64_t> PageSize(int32_t page_size);

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_PAGE_TOKEN_H_
