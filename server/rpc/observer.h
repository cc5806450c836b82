#ifndef SCONCE_SERVER_RPC_OBSERVER_H_
#define SCONCE_SERVER_RPC_OBSERVER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/wire/limits.h"

namespace sconce::rpc {

enum class CallKind { kUnary, kClientStream, kServerStream, kBidiStream };

// Which calls are answered while the server drains or is overloaded: an operator must still see its health then.
enum class Admission { kWhenServing, kAlways };

// What is fixed about one method. Service and method are string literals (they outlive every call).
struct CallSpec {
  absl::string_view service;  // "sconce.v1.CheckpointService"
  absl::string_view method;   // "GetRun"
  CallKind kind = CallKind::kUnary;
  int64_t max_request_bytes = wire::kMaxMessageBytes;  // of each message; larger is MESSAGE_TOO_LARGE
  Admission admission = Admission::kWhenServing;
};

// How a call ended.
struct CallResult {
  absl::StatusCode code = absl::StatusCode::kOk;
  absl::Duration duration;
  int64_t bytes_in = 0;  // of messages, without framing
  int64_t bytes_out = 0;
  int64_t messages_in = 0;
  int64_t messages_out = 0;
};

// Sees every call of every service, health and reflection included. Called from any thread; must be quick.
class RpcObserver {
 public:
  virtual ~RpcObserver() = default;
  virtual void OnStart(const CallSpec& spec) = 0;
  // Once for each OnStart.
  virtual void OnDone(const CallSpec& spec, const CallResult& result) = 0;
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_OBSERVER_H_
