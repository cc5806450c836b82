#include "proto/wire/status.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/strings.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "proto/wire/limits.h"

namespace sconce::wire {
namespace {

// Code, gRPC's and Abseil's spelling: the two enumerations must stay equal number for number.
#define SCONCE_CODES(X)                      \
  X(OK, Ok)                                  \
  X(CANCELLED, Cancelled)                    \
  X(UNKNOWN, Unknown)                        \
  X(INVALID_ARGUMENT, InvalidArgument)       \
  X(DEADLINE_EXCEEDED, DeadlineExceeded)     \
  X(NOT_FOUND, NotFound)                     \
  X(ALREADY_EXISTS, AlreadyExists)           \
  X(PERMISSION_DENIED, PermissionDenied)     \
  X(RESOURCE_EXHAUSTED, ResourceExhausted)   \
  X(FAILED_PRECONDITION, FailedPrecondition) \
  X(ABORTED, Aborted)                        \
  X(OUT_OF_RANGE, OutOfRange)                \
  X(UNIMPLEMENTED, Unimplemented)            \
  X(INTERNAL, Internal)                      \
  X(UNAVAILABLE, Unavailable)                \
  X(DATA_LOSS, DataLoss)                     \
  X(UNAUTHENTICATED, Unauthenticated)

#define SCONCE_SAME_NUMBER_(grpc_name, absl_name)                                                                  \
  static_assert(static_cast<int>(grpc::StatusCode::grpc_name) == static_cast<int>(absl::StatusCode::k##absl_name), \
                #grpc_name);
SCONCE_CODES(SCONCE_SAME_NUMBER_)
#undef SCONCE_SAME_NUMBER_

// What a status with code `code` but without a reason is reported as. The server never produces UNKNOWN, and a bare
// code that is none of these is a bug of ours.
Reason CanonicalReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kCancelled:
      return Reason::CALL_CANCELLED;
    case absl::StatusCode::kDeadlineExceeded:
      return Reason::CALL_DEADLINE_EXCEEDED;
    case absl::StatusCode::kInvalidArgument:
      return Reason::ARGUMENT_INVALID;
    case absl::StatusCode::kResourceExhausted:
      return Reason::INPUT_LIMIT_EXCEEDED;
    case absl::StatusCode::kUnimplemented:
      return Reason::NOT_IMPLEMENTED;
    case absl::StatusCode::kUnavailable:
      return Reason::SERVER_OVERLOADED;
    default:
      return Reason::INTERNAL_ERROR;
  }
}

// The same for a status that no server of ours made: gRPC's own, or a proxy's.
Reason ForeignReason(absl::StatusCode code) {
  if (code == absl::StatusCode::kUnavailable) return Reason::SERVER_UNREACHABLE;
  if (code == absl::StatusCode::kResourceExhausted) return Reason::MESSAGE_TOO_LARGE;
  return CanonicalReason(code);
}

// `s` cut to at most `limit` bytes, at the edge of a character.
std::string Cut(const std::string& s, size_t limit) {
  if (s.size() <= limit) return s;
  size_t end = limit - 3;
  while (end > 0 && (static_cast<unsigned char>(s[end]) & 0xC0) == 0x80) --end;
  return s.substr(0, end) + "...";
}

google::rpc::Status BuildDetails(const std::string& message, absl::StatusCode code, const ErrorDetail& detail,
                                 absl::string_view request_id) {
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(code));
  rich.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(detail.reason);
  info.set_domain(kErrorDomain);
  for (const auto& [key, value] : detail.metadata) (*info.mutable_metadata())[key] = value;
  rich.add_details()->PackFrom(info);
  if (code == absl::StatusCode::kUnavailable) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(1);
    rich.add_details()->PackFrom(retry);
  }
  if (!request_id.empty()) {
    google::rpc::RequestInfo request;
    request.set_request_id(std::string(request_id));
    rich.add_details()->PackFrom(request);
  }
  return rich;
}

// How many bytes the message takes as the `grpc-message` header, which percent-encodes what is not plain ASCII.
size_t EncodedSize(const std::string& message) {
  size_t size = message.size();
  for (const char c : message) size += c < 0x20 || c > 0x7E || c == '%' ? 2 : 0;
  return size;
}

bool Fits(const std::string& message, const std::string& details) {
  // The second limit is about what is sent: the details as base64.
  return message.size() + details.size() <= kMaxErrorBytes &&
         EncodedSize(message) + details.size() * 4 / 3 <= kMaxErrorBytes * 3 / 2;
}

bool FindDetail(const grpc::Status& status, google::protobuf::Message& out) {
  google::rpc::Status rich;
  if (status.error_details().empty() || !rich.ParseFromString(status.error_details())) return false;
  for (const auto& any : rich.details()) {
    if (any.type_url().substr(any.type_url().rfind('/') + 1) == out.GetDescriptor()->full_name()) {
      return out.ParseFromString(any.value());
    }
  }
  return false;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view request_id) {
  if (status.ok()) return grpc::Status::OK;
  absl::StatusCode code = status.code();
  ErrorDetail detail;
  if (auto given = GetErrorDetail(status)) {
    detail = *std::move(given);
  } else {
    const Reason reason = CanonicalReason(code);
    code = ReasonCode(reason);
    detail.reason = std::string(ReasonName(reason));
  }

  std::string message = ToValidUtf8(status.message());
  for (auto& [key, value] : detail.metadata) {
    key = Cut(ToValidUtf8(key), 64);
    value = Cut(ToValidUtf8(value), 256);
  }
  std::string details;
  for (;;) {
    details = BuildDetails(message, code, detail, request_id).SerializeAsString();
    if (Fits(message, details)) break;
    // First the message gives way, which says the important things first; then the metadata.
    if (message.size() > 1024) {
      message = Cut(message, std::max<size_t>(1024, message.size() * 3 / 4));
    } else if (!detail.metadata.empty()) {
      detail.metadata.pop_back();
    } else {
      message = Cut(message, message.size() / 2);
    }
  }
  return grpc::Status(static_cast<grpc::StatusCode>(code), message, details);
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int number = static_cast<int>(status.error_code());
  const auto code = number >= 1 && number <= 16 ? static_cast<absl::StatusCode>(number) : absl::StatusCode::kUnknown;
  google::rpc::ErrorInfo info;
  if (!FindDetail(status, info) || info.reason().empty()) {
    return MakeRemoteError(code, ReasonName(ForeignReason(code)), status.error_message(), {});
  }
  ErrorMetadata metadata(info.metadata().begin(), info.metadata().end());
  std::sort(metadata.begin(), metadata.end());
  return MakeRemoteError(code, info.reason(), status.error_message(), metadata);
}

std::optional<absl::Duration> RetryDelay(const grpc::Status& status) {
  google::rpc::RetryInfo retry;
  if (!FindDetail(status, retry)) return std::nullopt;
  return absl::Seconds(retry.retry_delay().seconds()) + absl::Nanoseconds(retry.retry_delay().nanos());
}

absl::string_view CodeName(absl::StatusCode code) {
  switch (code) {
#define SCONCE_CODE_NAME_(grpc_name, absl_name) \
  case absl::StatusCode::k##absl_name:          \
    return #grpc_name;
    SCONCE_CODES(SCONCE_CODE_NAME_)
#undef SCONCE_CODE_NAME_
    default:
      return "UNKNOWN";
  }
}

}  // namespace sconce::wire
