#ifndef SCONCE_PROTO_WIRE_STATUS_H_
#define SCONCE_PROTO_WIRE_STATUS_H_

#include <grpcpp/support/status.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// Errors cross the wire as google.rpc.Status: the canonical code, a sentence, and details of which exactly one is an
// ErrorInfo (domain "sconce.dev") with the reason. This is the only place that makes a grpc::Status.
namespace sconce::wire {

inline constexpr char kErrorDomain[] = "sconce.dev";

// `status` for the wire. One without a Reason gets the one that stands for its code (CANCELLED is CALL_CANCELLED,
// anything unexpected INTERNAL_ERROR). UNAVAILABLE carries a RetryInfo; `request_id`, unless empty, a RequestInfo.
// Message and details are cut to kMaxErrorBytes.
grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view request_id = {});

// The inverse, for clients: the code, the sentence, and the Reason with its metadata (GetErrorDetail, HasReason). A
// status that no server of ours made, such as gRPC's own UNAVAILABLE for a broken connection, gets the reason that
// stands for its code: SERVER_UNREACHABLE for UNAVAILABLE.
absl::Status FromGrpcStatus(const grpc::Status& status);

// How long a status from the wire asks to wait before trying again (its RetryInfo).
std::optional<absl::Duration> RetryDelay(const grpc::Status& status);

// "NOT_FOUND" and the like, for logs.
absl::string_view CodeName(absl::StatusCode code);

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_STATUS_H_
