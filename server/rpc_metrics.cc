#include "server/rpc_metrics.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"

namespace sconce {
namespace {

using observability::Family;
using observability::Labels;

// As Go writes them.
const char* CodeName(absl::StatusCode code) {
  static constexpr const char* kNames[] = {
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "Unknown";
}

const char* TypeName(rpc::CallKind kind) {
  switch (kind) {
    case rpc::CallKind::kUnary:
      return "unary";
    case rpc::CallKind::kClientStream:
      return "client_stream";
    case rpc::CallKind::kServerStream:
      return "server_stream";
    case rpc::CallKind::kBidiStream:
      return "bidi_stream";
  }
  return "unary";
}

}  // namespace

void RpcMetrics::OnStart(const rpc::CallSpec& spec) {
  MutexLock lock(&mu_);
  Method& method = methods_[{std::string(spec.service), std::string(spec.method)}];
  method.kind = spec.kind;
  ++method.started;
}

void RpcMetrics::OnDone(const rpc::CallSpec& spec, const rpc::CallResult& result) {
  const double seconds = absl::ToDoubleSeconds(result.duration);
  MutexLock lock(&mu_);
  Method& method = methods_[{std::string(spec.service), std::string(spec.method)}];
  method.kind = spec.kind;
  ++method.handled[CodeName(result.code)];
  method.received += result.messages_in;
  method.sent += result.messages_out;
  method.bytes_sent += result.bytes_out;
  const auto bucket = std::lower_bound(kSeconds.begin(), kSeconds.end(), seconds);
  if (bucket != kSeconds.end()) ++method.buckets[static_cast<size_t>(bucket - kSeconds.begin())];
  ++method.count;
  method.seconds += seconds;
}

std::vector<Family> RpcMetrics::Collect() const {
  using Type = Family::Type;
  Family started{"grpc_server_started_total", "Calls started.", Type::kCounter, {}};
  Family handled{"grpc_server_handled_total", "Calls ended, by their code.", Type::kCounter, {}};
  Family received{"grpc_server_msg_received_total", "Messages received.", Type::kCounter, {}};
  Family sent{"grpc_server_msg_sent_total", "Messages sent.", Type::kCounter, {}};
  Family seconds{"grpc_server_handling_seconds", "How long calls took.", Type::kHistogram, {}};
  Family downloaded{"sconce_download_bytes_total",
                    "Bytes sent by the calls that transfer checkpoints and modules.",
                    Type::kCounter,
                    {}};
  double download_bytes = 0;
  MutexLock lock(&mu_);
  for (const auto& [name, method] : methods_) {
    const Labels labels = {
        {"grpc_method", name.second}, {"grpc_service", name.first}, {"grpc_type", TypeName(method.kind)}};
    started.Add(labels, static_cast<double>(method.started));
    received.Add(labels, static_cast<double>(method.received));
    sent.Add(labels, static_cast<double>(method.sent));
    for (const auto& [code, count] : method.handled) {
      Labels with_code = labels;
      with_code.emplace_back("grpc_code", code);
      handled.Add(with_code, static_cast<double>(count));
    }
    observability::Sample histogram;
    histogram.labels = labels;
    uint64_t below = 0;
    for (size_t i = 0; i < kSeconds.size(); ++i)
      histogram.buckets.emplace_back(kSeconds[i], below += method.buckets[i]);
    histogram.count = method.count;
    histogram.value = method.seconds;
    seconds.samples.push_back(std::move(histogram));
    if (name.first == "sconce.v1.TransferService") download_bytes += static_cast<double>(method.bytes_sent);
  }
  downloaded.Add({}, download_bytes);
  return {started, handled, received, sent, seconds, downloaded};
}

}  // namespace sconce
