#include "server/services/health_service.h"

#include <grpcpp/server_context.h>

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/rpc/stream.h"
#include "server/rpc/unary.h"

namespace sconce::services {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr char kService[] = "grpc.health.v1.Health";
constexpr rpc::CallSpec kCheck = {kService, "Check", rpc::CallKind::kUnary, wire::kMaxMessageBytes,
                                  rpc::Admission::kAlways};
constexpr rpc::CallSpec kWatch = {kService, "Watch", rpc::CallKind::kServerStream, wire::kMaxMessageBytes,
                                  rpc::Admission::kAlways};

}  // namespace

class HealthService::Impl final : public grpc::health::v1::Health::CallbackService {
 public:
  Impl(rpc::CallRuntime& runtime, const std::vector<std::string>& services)
      : runtime_(runtime), services_(services.begin(), services.end()) {
    services_.insert("");
  }

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context, const HealthCheckRequest* request,
                                  HealthCheckResponse* response) override {
    auto* call = new rpc::UnaryCall(runtime_, context, kCheck);
    if (services_.count(request->service()) == 0) {
      call->Complete(MakeError(Reason::RESOURCE_NOT_FOUND,
                               absl::StrCat("service name unknown: ", Quoted(request->service()),
                                            "; ask for \"\", the whole server, or a service that reflection lists"),
                               {{"service", request->service()}}),
                     0);
      return call;
    }
    {
      MutexLock lock(&mu_);
      response->set_status(StateOf(request->service()));
    }
    call->Complete(absl::OkStatus(), static_cast<int64_t>(response->ByteSizeLong()));
    return call;
  }

  grpc::ServerWriteReactor<HealthCheckResponse>* Watch(grpc::CallbackServerContext* context,
                                                       const HealthCheckRequest* request) override;

  void SetServing(bool serving) ABSL_LOCKS_EXCLUDED(mu_);
  void SetHealthy(const std::string& service, bool healthy) ABSL_LOCKS_EXCLUDED(mu_);
  void EndWatches() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Watcher;

  void Forget(Watcher* watcher) ABSL_LOCKS_EXCLUDED(mu_);
  HealthCheckResponse::ServingStatus StateOf(const std::string& service) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (services_.count(service) == 0) return HealthCheckResponse::SERVICE_UNKNOWN;
    return serving_ && unhealthy_.count(service) == 0 ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  }

  rpc::CallRuntime& runtime_;
  std::set<std::string> services_;  // constant after construction
  // Taken before a Watcher's, and held while watchers are told, which keeps them alive: what that does never blocks.
  Mutex mu_;
  bool serving_ ABSL_GUARDED_BY(mu_) = false;
  std::set<std::string> unhealthy_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::set<Watcher*> watchers_ ABSL_GUARDED_BY(mu_);
};

// A watch: sends the state at once and then each one that differs from the last. If it changes twice while a message is
// under way, only the last one is sent.
class HealthService::Impl::Watcher final : public rpc::StreamCall<grpc::ServerWriteReactor<HealthCheckResponse>> {
 public:
  Watcher(Impl& health, grpc::CallbackServerContext* context, std::string service)
      : StreamCall(health.runtime_, context, kWatch), health_(health), service_(std::move(service)) {
    scope().SetResource(service_);
  }

  const std::string& service() const { return service_; }

  void Tell(HealthCheckResponse::ServingStatus state) ABSL_LOCKS_EXCLUDED(watch_mu_) {
    MutexLock lock(&watch_mu_);
    wanted_ = state;
    WriteIfNew();
  }

  // Finishes when the last state told is on its way.
  void End() ABSL_LOCKS_EXCLUDED(watch_mu_) {
    {
      MutexLock lock(&watch_mu_);
      ending_ = true;
      if (writing_) return;
    }
    FinishDraining();
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&watch_mu_);
      writing_ = false;
      if (!ok) return;  // cancelled: that ends it
      WriteIfNew();
      if (writing_ || !ending_) return;
    }
    FinishDraining();
  }

  void OnDone() override {
    health_.Forget(this);
    StreamCall::OnDone();
  }

 private:
  void WriteIfNew() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watch_mu_) {
    if (writing_ || ending() || (message_.has_value() && message_->status() == wanted_)) return;
    message_.emplace().set_status(wanted_);
    writing_ = true;
    scope().CountSent(static_cast<int64_t>(message_->ByteSizeLong()));
    StartWrite(&*message_);
  }

  void FinishDraining() {
    FinishOnce(MakeError(Reason::SERVER_DRAINING, "the server is shutting down; watch another one, or this one later"));
  }

  Impl& health_;
  const std::string service_;
  Mutex watch_mu_;
  HealthCheckResponse::ServingStatus wanted_ ABSL_GUARDED_BY(watch_mu_) = HealthCheckResponse::UNKNOWN;
  std::optional<HealthCheckResponse> message_
      ABSL_GUARDED_BY(watch_mu_);  // sent last, or under way; gRPC reads it while writing_
  bool writing_ ABSL_GUARDED_BY(watch_mu_) = false;
  bool ending_ ABSL_GUARDED_BY(watch_mu_) = false;
};

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Impl::Watch(grpc::CallbackServerContext* context,
                                                                          const HealthCheckRequest* request) {
  auto* watcher = new Watcher(*this, context, request->service());
  MutexLock lock(&mu_);
  watchers_.insert(watcher);
  watcher->Tell(StateOf(watcher->service()));
  if (ended_) watcher->End();
  return watcher;
}

void HealthService::Impl::SetServing(bool serving) {
  MutexLock lock(&mu_);
  serving_ = serving;
  for (Watcher* watcher : watchers_) watcher->Tell(StateOf(watcher->service()));
}

void HealthService::Impl::SetHealthy(const std::string& service, bool healthy) {
  MutexLock lock(&mu_);
  if (healthy ? unhealthy_.erase(service) == 0 : !unhealthy_.insert(service).second) return;
  for (Watcher* watcher : watchers_) watcher->Tell(StateOf(watcher->service()));
}

void HealthService::Impl::EndWatches() {
  MutexLock lock(&mu_);
  ended_ = true;
  for (Watcher* watcher : watchers_) watcher->End();
}

void HealthService::Impl::Forget(Watcher* watcher) {
  MutexLock lock(&mu_);
  watchers_.erase(watcher);
}

HealthService::HealthService(rpc::CallRuntime& runtime, const std::vector<std::string>& services)
    : impl_(std::make_unique<Impl>(runtime, services)) {}
HealthService::~HealthService() = default;
grpc::Service* HealthService::service() {
  return impl_.get();
}
void HealthService::SetServing(bool serving) {
  impl_->SetServing(serving);
}
void HealthService::SetHealthy(const std::string& service, bool healthy) {
  impl_->SetHealthy(service, healthy);
}
void HealthService::EndWatches() {
  impl_->EndWatches();
}

}  // namespace sconce::services
