#ifndef SCONCE_TESTS_UNIT_SERVER_RPC_CALL_FIXTURE_H_
#define SCONCE_TESTS_UNIT_SERVER_RPC_CALL_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "proto/wire/status.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "server/rpc/unary.h"
#include "server/rpc/unimplemented.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"

namespace sconce::rpc {

inline constexpr CallSpec kGetRun = {"sconce.v1.CheckpointService", "GetRun"};

// What a thread of a test waits for.
class Event {
 public:
  void Set() {
    MutexLock lock(&mu_);
    set_ = true;
    changed_.SignalAll();
  }
  void Await() {
    MutexLock lock(&mu_);
    while (!set_) changed_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mu_) = false;
};

// The system's time and what a test adds to it.
class TurnableClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(&mu_);
    return absl::Now() + ahead_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(&mu_);
    ahead_ += by;
  }

 private:
  mutable Mutex mu_;
  absl::Duration ahead_ ABSL_GUARDED_BY(mu_);
};

class RecordingObserver : public RpcObserver {
 public:
  void OnStart(const CallSpec&) override {
    MutexLock lock(&mu_);
    ++started_;
    changed_.SignalAll();
  }
  void OnDone(const CallSpec& spec, const CallResult& result) override {
    MutexLock lock(&mu_);
    last_method_ = std::string(spec.method);
    results_.push_back(result);
    changed_.SignalAll();
  }
  int started() {
    MutexLock lock(&mu_);
    return started_;
  }
  void AwaitStarted(int count) {
    MutexLock lock(&mu_);
    while (started_ < count) changed_.Wait(&mu_);
  }
  CallResult AwaitResult(size_t number) {
    MutexLock lock(&mu_);
    while (results_.size() < number) changed_.Wait(&mu_);
    return results_[number - 1];
  }

 private:
  Mutex mu_;
  CondVar changed_;
  int started_ ABSL_GUARDED_BY(mu_) = 0;
  std::string last_method_ ABSL_GUARDED_BY(mu_);
  std::vector<CallResult> results_ ABSL_GUARDED_BY(mu_);
};

using Handler = std::function<absl::Status(CallScope&, const v1::GetRunRequest&, v1::Run&)>;
using Start =
    std::function<void(CallScope&, const v1::GetRunRequest&, v1::Run&, absl::AnyInvocable<void(absl::Status)>)>;

class TestService final : public v1::CheckpointService::CallbackService {
 public:
  TestService(CallRuntime& runtime, Handler handler) : runtime_(runtime), handler_(std::move(handler)) {}
  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context, const v1::GetRunRequest* request,
                                   v1::Run* response) override {
    if (start) return HandleUnaryAsync(runtime_, context, kGetRun, request, response, start);
    return HandleUnary(runtime_, context, kGetRun, request, response, handler_);
  }
  grpc::ServerUnaryReactor* PlanLoad(grpc::CallbackServerContext* context, const v1::PlanLoadRequest*,
                                     v1::PlanLoadResponse*) override {
    return NotImplementedUnary(runtime_, context, {"s", "PlanLoad"}, "use another");
  }
  grpc::ServerBidiReactor<v1::PlanLoadRequest, v1::PlanLoadResponse>* PlanLargeLoad(
      grpc::CallbackServerContext* context) override {
    return new NotImplementedStream<grpc::ServerBidiReactor<v1::PlanLoadRequest, v1::PlanLoadResponse>>(
        runtime_, context, {"s", "PlanLargeLoad", CallKind::kBidiStream});
  }
  grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>* WatchCheckpoints(
      grpc::CallbackServerContext* context, const v1::WatchCheckpointsRequest*) override {
    return new NotImplementedStream<grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>>(
        runtime_, context, {"s", "WatchCheckpoints", CallKind::kServerStream});
  }

  Start start;

 private:
  CallRuntime& runtime_;
  const Handler handler_;
};

struct Answer {
  absl::Status status;
  v1::Run run;
  std::string request_id;  // of the trailing metadata
};

class CallTest : public ::testing::Test {
 protected:
  // With `options` changed first if need be.
  void Serve(Handler handler) {
    options_.observer = &observer_;
    runtime_.emplace(options_);
    service_ = std::make_unique<TestService>(*runtime_, std::move(handler));
    server_ = std::make_unique<InProcessServer>(std::vector<grpc::Service*>{service_.get()});
    stub_ = v1::CheckpointService::NewStub(server_->channel());
  }
  static absl::Status Ok(CallScope&, const v1::GetRunRequest& request, v1::Run& run) {
    run.set_name(request.name());
    return absl::OkStatus();
  }

  Answer Call(const std::string& name = "x", grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    if (context == nullptr) context = &own;
    v1::GetRunRequest request;
    request.set_name(name);
    Answer answer;
    answer.status = wire::FromGrpcStatus(stub_->GetRun(context, request, &answer.run));
    const auto id = context->GetServerTrailingMetadata().find("x-request-id");
    if (id != context->GetServerTrailingMetadata().end())
      answer.request_id.assign(id->second.data(), id->second.size());
    return answer;
  }

  RuntimeOptions options_;
  RecordingObserver observer_;
  std::optional<CallRuntime> runtime_;
  std::unique_ptr<TestService> service_;
  std::unique_ptr<InProcessServer> server_;
  std::unique_ptr<v1::CheckpointService::Stub> stub_;
};

}  // namespace sconce::rpc

#endif  // SCONCE_TESTS_UNIT_SERVER_RPC_CALL_FIXTURE_H_
