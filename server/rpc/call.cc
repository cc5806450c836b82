#include "server/rpc/call.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/strings.h"
#include "proto/wire/status.h"

namespace sconce::rpc {
namespace {

constexpr char kRequestIdKey[] = "x-request-id";
// gRPC turns a deadline into its own monotonic clock and back, so it may come a little early.
constexpr absl::Duration kClockSkew = absl::Milliseconds(20);

std::string ClientMetadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  return found == context.client_metadata().end() ? "" : std::string(found->second.data(), found->second.size());
}

std::string RequestId(const grpc::CallbackServerContext& context) {
  std::string id = ClientMetadata(context, kRequestIdKey);
  bool usable = !id.empty() && id.size() <= 128;
  for (const char c : id) usable = usable && absl::ascii_isgraph(static_cast<unsigned char>(c));
  if (usable) return id;
  thread_local absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random), absl::Uniform<uint64_t>(random));
}

// The trace id of a W3C `traceparent`, or "" when there is none or it is not valid.
std::string TraceId(const grpc::CallbackServerContext& context) {
  const std::string parent = ClientMetadata(context, "traceparent");
  // version "-" trace id "-" parent id "-" flags; later versions may append.
  if (parent.size() < 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-') return "";
  if (parent.compare(0, 2, "ff") == 0) return "";
  const std::string id = parent.substr(3, 32);
  const bool hex = id.find_first_not_of("0123456789abcdef") == std::string::npos;
  const bool zero = id.find_first_not_of('0') == std::string::npos;
  return hex && !zero ? id : "";
}

// gRPC percent-encodes what it does not like in "ipv6:%5B::1%5D:4711"; a log is read by people.
std::string Peer(const grpc::CallbackServerContext& context) {
  std::string peer = context.peer();
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"%5B", "["}, {"%5D", "]"}}) {
    const size_t at = peer.find(from);
    if (at != std::string::npos) peer.replace(at, from.size(), to);
  }
  return peer;
}

absl::Time Deadline(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

}  // namespace

CallScope::CallScope(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec)
    : runtime_(runtime),
      context_(context),
      spec_(spec),
      start_time_(runtime.clock().Now()),
      deadline_(Deadline(*context)),
      request_id_(RequestId(*context)),
      trace_id_(TraceId(*context)),
      peer_(Peer(*context)),
      principal_("anonymous") {
  if (runtime_.observer_ != nullptr) runtime_.observer_->OnStart(spec_);
}

CallScope::~CallScope() {
  SCONCE_CHECK(finished_);
}

absl::Status CallScope::Admit() {
  if (spec_.admission == Admission::kAlways) return absl::OkStatus();
  if (runtime_.draining()) {
    return MakeError(Reason::SERVER_DRAINING, "the server is shutting down; try again, on another one if there is one");
  }
  counted_ = true;
  if (++runtime_.calls_in_flight_ > runtime_.max_calls_) {
    return MakeError(Reason::SERVER_OVERLOADED, "the server has more calls than it can take; try again");
  }
  return absl::OkStatus();
}

absl::Status CallScope::TakeMessage(int64_t size_bytes) {
  ++messages_in_;
  bytes_in_ += size_bytes;
  if (size_bytes > spec_.max_request_bytes) {
    return MakeError(
        Reason::MESSAGE_TOO_LARGE,
        absl::StrCat("a message of ", size_bytes, " bytes is larger than the ", spec_.max_request_bytes, " that ",
                     spec_.method, " takes; send less in one message"),
        {{"size_bytes", absl::StrCat(size_bytes)}, {"limit_bytes", absl::StrCat(spec_.max_request_bytes)}});
  }
  MutexLock lock(&mu_);
  { const ByteReservation released = std::move(reservation_); }
  auto reserved = runtime_.Reserve(size_bytes);
  if (!reserved.ok()) return reserved.status();
  reservation_ = *std::move(reserved);
  return absl::OkStatus();
}

void CallScope::CountSent(int64_t size_bytes) {
  ++messages_out_;
  bytes_out_ += size_bytes;
}

grpc::Status CallScope::Finish(const absl::Status& status) {
  End end = FinishAndLogLater(status);
  end.log();
  return std::move(end.status);
}

CallScope::End CallScope::FinishAndLogLater(const absl::Status& status) {
  SCONCE_CHECK(!finished_);
  finished_ = true;
  const absl::Status gone = status.ok() ? absl::OkStatus() : CheckCancelled();
  const absl::Status& end = gone.ok() ? status : gone;
  std::string resource;
  {
    MutexLock lock(&mu_);
    on_cancel_ = nullptr;
    resource = resource_;
    // Given back before the answer leaves: a client that sends one call after the other must not run into itself.
    { const ByteReservation released = std::move(reservation_); }
  }
  if (counted_) --runtime_.calls_in_flight_;
  context_->AddTrailingMetadata(kRequestIdKey, request_id_);
  const grpc::Status answer = wire::ToGrpcStatus(end, request_id_);

  CallResult result;
  result.code = static_cast<absl::StatusCode>(answer.error_code());
  result.duration = runtime_.clock().Now() - start_time_;
  result.bytes_in = bytes_in_;
  result.bytes_out = bytes_out_;
  result.messages_in = messages_in_;
  result.messages_out = messages_out_;
  if (runtime_.observer_ != nullptr) runtime_.observer_->OnDone(spec_, result);

  const auto detail = GetErrorDetail(end);
  auto log = [result, resource = std::move(resource), reason = detail ? detail->reason : "",
              message = std::string(end.message().substr(0, 1000)),
              method = absl::StrCat(spec_.service, "/", spec_.method), peer = peer_, principal = principal_,
              request_id = request_id_, trace_id = trace_id_] {
    const bool ours = result.code == absl::StatusCode::kInternal || result.code == absl::StatusCode::kDataLoss;
    Log(ours ? Severity::kError : Severity::kInfo, "rpc",
        {{"rpc.method", method},
         {"grpc.code", wire::CodeName(result.code)},
         {"reason", reason},
         {"message", message},
         {"duration_ms", absl::ToDoubleMilliseconds(result.duration)},
         {"peer", peer},
         {"principal", principal},
         {"request_id", request_id},
         {"trace_id", trace_id},
         {"bytes_in", result.bytes_in},
         {"bytes_out", result.bytes_out},
         {"resource", resource}});
  };
  return {answer, std::move(log)};
}

bool CallScope::cancelled() const {
  return cancelled_ || context_->IsCancelled();
}

absl::Status CallScope::CheckCancelled() const {
  const absl::Time now = runtime_.clock().Now();
  if (!cancelled() && now < deadline_) return absl::OkStatus();
  // gRPC tells of a passed deadline as of any cancellation.
  if (now + kClockSkew >= deadline_) {
    return MakeError(Reason::CALL_DEADLINE_EXCEEDED, "the call's deadline passed before it was done");
  }
  return MakeError(Reason::CALL_CANCELLED, "the client cancelled the call, or its connection broke");
}

void CallScope::OnCancel(absl::AnyInvocable<void()> callback) {
  MutexLock lock(&mu_);
  if (cancelled_) {
    callback();
  } else {
    on_cancel_ = std::move(callback);
  }
}

void CallScope::MarkCancelled() {
  MutexLock lock(&mu_);
  cancelled_ = true;
  if (on_cancel_) on_cancel_();
  on_cancel_ = nullptr;
}

void CallScope::SetResource(absl::string_view resource) {
  MutexLock lock(&mu_);
  resource_ = std::string(resource);
}

}  // namespace sconce::rpc
