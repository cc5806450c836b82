#include "server/rpc/call.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "proto/wire/status.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "server/rpc/unary.h"
#include "server/rpc/unimplemented.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"

namespace sconce::rpc {
namespace {

using ::testing::HasSubstr;

constexpr CallSpec kGetRun = {"sconce.v1.CheckpointService", "GetRun"};

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

class RecordingObserver : public RpcObserver {
 public:
  void OnStart(const CallSpec&) override {
    MutexLock lock(&mu_);
    ++started_;
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

TEST_F(CallTest, TheHandlersAnswerArrives) {
  Serve(Ok);
  const Answer answer = Call("projects/p/runs/r");
  EXPECT_OK(answer.status);
  EXPECT_EQ(answer.run.name(), "projects/p/runs/r");
  EXPECT_EQ(answer.request_id.size(), 32u) << "made by the server";
  EXPECT_NE(answer.request_id, Call().request_id);
}

TEST_F(CallTest, TheHandlersErrorArrivesWithReasonAndRequestId) {
  Serve([](CallScope&, const v1::GetRunRequest&, v1::Run& run) {
    run.set_name("half done");
    return MakeError(Reason::RUN_NOT_FOUND, "no run \"r\"", {{"run", "r"}});
  });
  const Answer answer = Call();
  EXPECT_THAT(answer.status, FailsWith(Reason::RUN_NOT_FOUND, "no run \"r\""));
  EXPECT_EQ(answer.run.name(), "") << "an error sends no response";
  EXPECT_FALSE(answer.request_id.empty());
}

TEST_F(CallTest, TheClientsRequestIdIsKeptUnlessItIsUnfit) {
  std::string seen;
  Serve([&seen](CallScope& scope, const v1::GetRunRequest&, v1::Run&) {
    seen = scope.request_id();
    return absl::OkStatus();
  });
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "train-17/epoch-3");
  EXPECT_EQ(Call("x", &context).request_id, "train-17/epoch-3");
  EXPECT_EQ(seen, "train-17/epoch-3");

  for (const std::string& unfit : {std::string("two words"), std::string(129, 'x')}) {
    grpc::ClientContext other;
    other.AddMetadata("x-request-id", unfit);
    EXPECT_NE(Call("x", &other).request_id, unfit);
  }
}

TEST_F(CallTest, OneAccessLogLineSaysEverything) {
  Serve([](CallScope& scope, const v1::GetRunRequest&, v1::Run&) {
    scope.SetResource("projects/p/runs/r");
    return MakeError(Reason::RUN_NOT_FOUND, "no run");
  });
  ::testing::internal::CaptureStderr();
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "id-4711");
  context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  Call("x", &context);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  for (const char* part :
       {"\"event\":\"rpc\"", "\"rpc.method\":\"sconce.v1.CheckpointService/GetRun\"", "\"grpc.code\":\"NOT_FOUND\"",
        "\"reason\":\"RUN_NOT_FOUND\"", "\"request_id\":\"id-4711\"", "\"principal\":\"anonymous\"",
        "\"peer\":\"ipv4:127.0.0.1:", "\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"",
        "\"resource\":\"projects/p/runs/r\"", "\"bytes_in\":3", "\"duration_ms\":"}) {
    EXPECT_THAT(log, HasSubstr(part));
  }
}

TEST_F(CallTest, TheObserverSeesStartEndCodeAndBytes) {
  Serve(Ok);
  Call("abc");
  const CallResult result = observer_.AwaitResult(1);
  EXPECT_EQ(observer_.started(), 1);
  EXPECT_EQ(result.code, absl::StatusCode::kOk);
  EXPECT_EQ(result.bytes_in, 5);
  EXPECT_EQ(result.bytes_out, 5);
  EXPECT_EQ(result.messages_in, 1);
  EXPECT_EQ(result.messages_out, 1);
  EXPECT_GT(result.duration, absl::ZeroDuration());
}

TEST_F(CallTest, AMessageOverTheLimitIsRefusedBeforeTheHandler) {
  bool ran = false;
  Serve([&ran](CallScope&, const v1::GetRunRequest&, v1::Run&) {
    ran = true;
    return absl::OkStatus();
  });
  EXPECT_OK(Call(std::string((4 << 20) - 100, 'x')).status);
  EXPECT_TRUE(std::exchange(ran, false));
  EXPECT_THAT(Call(std::string((4 << 20) + 100, 'x')).status,
              FailsWith(Reason::MESSAGE_TOO_LARGE, HasSubstr("4194304")));
  EXPECT_FALSE(ran);
}

TEST_F(CallTest, WhileDrainingNewCallsAreRefusedAndThoseUnderWayEnd) {
  Event entered, leave;
  Serve([&](CallScope&, const v1::GetRunRequest&, v1::Run&) {
    entered.Set();
    leave.Await();
    return absl::OkStatus();
  });
  Answer first;
  std::thread caller([&] { first = Call(); });
  entered.Await();
  runtime_->StartDraining();
  EXPECT_THAT(Call().status, FailsWith(Reason::SERVER_DRAINING));
  leave.Set();
  caller.join();
  EXPECT_OK(first.status);
}

TEST_F(CallTest, TooManyCallsAreRefused) {
  options_.max_calls = 1;
  Event entered, leave;
  Serve([&](CallScope&, const v1::GetRunRequest&, v1::Run&) {
    entered.Set();
    leave.Await();
    return absl::OkStatus();
  });
  std::thread caller([&] { EXPECT_OK(Call().status); });
  entered.Await();
  EXPECT_THAT(Call().status, FailsWith(Reason::SERVER_OVERLOADED));
  leave.Set();
  caller.join();
  EXPECT_OK(Call().status) << "the place is free again";
}

TEST_F(CallTest, AFullPoolRefusesInsteadOfWaiting) {
  options_.unary_threads = 1;
  options_.queue_limit = 1;
  Event entered, leave;
  Serve([&](CallScope&, const v1::GetRunRequest& request, v1::Run&) {
    if (request.name() == "block") {
      entered.Set();
      leave.Await();
    }
    return absl::OkStatus();
  });
  std::thread blocking([&] { EXPECT_OK(Call("block").status); });
  entered.Await();
  // The queue has one place: of three more calls at most one waits, the others are refused at once.
  std::vector<absl::Status> statuses(3);
  std::vector<std::thread> callers;
  Mutex mu;
  CondVar refused;
  int refusals = 0;
  for (size_t i = 0; i < statuses.size(); ++i) {
    callers.emplace_back([&, i] {
      statuses[i] = Call().status;
      if (statuses[i].ok()) return;
      MutexLock lock(&mu);
      ++refusals;
      refused.SignalAll();
    });
  }
  {
    MutexLock lock(&mu);
    while (refusals < 2) refused.Wait(&mu);
  }
  leave.Set();
  blocking.join();
  for (std::thread& caller : callers) caller.join();
  int ok = 0;
  for (const absl::Status& status : statuses) {
    if (status.ok()) {
      ++ok;
    } else {
      EXPECT_THAT(status, FailsWith(Reason::SERVER_OVERLOADED));
    }
  }
  EXPECT_EQ(ok, 1);
}

TEST_F(CallTest, BytesInMemoryHaveABudgetThatComesBack) {
  options_.max_in_flight_bytes = 3 << 20;
  Event entered, leave;
  Serve([&](CallScope&, const v1::GetRunRequest&, v1::Run&) {
    entered.Set();
    leave.Await();
    return absl::OkStatus();
  });
  const std::string two_mebibytes(2 << 20, 'x');
  std::thread caller([&] { EXPECT_OK(Call(two_mebibytes).status); });
  entered.Await();
  EXPECT_THAT(Call(two_mebibytes).status, FailsWith(Reason::SERVER_OVERLOADED));
  leave.Set();
  caller.join();
  EXPECT_OK(Call(two_mebibytes).status);
  server_.reset();
  EXPECT_EQ(runtime_->bytes_in_flight(), 0);
  EXPECT_EQ(runtime_->calls_in_flight(), 0);
}

TEST_F(CallTest, ACancelledCallTellsItsHandlerAndIsLoggedAsCancelled) {
  Event entered, told;
  absl::Status seen;
  Serve([&](CallScope& scope, const v1::GetRunRequest&, v1::Run&) {
    scope.OnCancel([&told] { told.Set(); });
    entered.Set();
    told.Await();
    seen = scope.CheckCancelled();
    return MakeError(Reason::IO_ERROR, "gave up");
  });
  grpc::ClientContext context;
  std::thread caller([&] { EXPECT_EQ(Call("x", &context).status.code(), absl::StatusCode::kCancelled); });
  entered.Await();
  context.TryCancel();
  caller.join();
  EXPECT_EQ(observer_.AwaitResult(1).code, absl::StatusCode::kCancelled);
  EXPECT_THAT(seen, FailsWith(Reason::CALL_CANCELLED));
}

TEST_F(CallTest, APassedDeadlineIsToldApartFromACancellation) {
  Event told;
  Serve([&](CallScope& scope, const v1::GetRunRequest&, v1::Run&) {
    scope.OnCancel([&told] { told.Set(); });
    told.Await();
    return scope.CheckCancelled();
  });
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  EXPECT_THAT(Call("x", &context).status, FailsWith(Reason::CALL_DEADLINE_EXCEEDED));
  EXPECT_EQ(observer_.AwaitResult(1).code, absl::StatusCode::kDeadlineExceeded);
}

TEST_F(CallTest, ACallCancelledInTheQueueNeverRuns) {
  options_.unary_threads = 1;
  Event entered, leave;
  std::atomic<int> ran{0};
  Serve([&](CallScope&, const v1::GetRunRequest&, v1::Run&) {
    ++ran;
    entered.Set();
    leave.Await();
    return absl::OkStatus();
  });
  std::thread blocking([&] { EXPECT_OK(Call().status); });
  entered.Await();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  EXPECT_FALSE(Call("x", &context).status.ok());
  leave.Set();
  blocking.join();
  EXPECT_EQ(observer_.AwaitResult(2).code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ran, 1);
}

TEST_F(CallTest, AnAsynchronousHandlerAnswersLaterFromAnyThread) {
  Serve(Ok);
  std::vector<std::thread> workers;
  service_->start = [&workers](CallScope&, const v1::GetRunRequest& request, v1::Run& run,
                               absl::AnyInvocable<void(absl::Status)> done) {
    workers.emplace_back([&request, &run, done = std::move(done)]() mutable {
      run.set_name(request.name() + "!");
      done(absl::OkStatus());
    });
  };
  EXPECT_EQ(Call("later").run.name(), "later!");
  for (std::thread& worker : workers) worker.join();
}

TEST_F(CallTest, CallsOfLaterReleasesSayWhatToDoInstead) {
  Serve(Ok);
  {
    grpc::ClientContext context;
    v1::PlanLoadResponse response;
    EXPECT_THAT(wire::FromGrpcStatus(stub_->PlanLoad(&context, {}, &response)),
                FailsWith(Reason::NOT_IMPLEMENTED, HasSubstr("use another")));
  }
  {
    grpc::ClientContext context;
    v1::WatchCheckpointsResponse response;
    const auto reader = stub_->WatchCheckpoints(&context, {});
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_THAT(wire::FromGrpcStatus(reader->Finish()), FailsWith(Reason::NOT_IMPLEMENTED));
  }
  {
    grpc::ClientContext context;
    v1::PlanLoadResponse response;
    const auto stream = stub_->PlanLargeLoad(&context);
    stream->WritesDone();
    EXPECT_FALSE(stream->Read(&response));
    EXPECT_THAT(wire::FromGrpcStatus(stream->Finish()), FailsWith(Reason::NOT_IMPLEMENTED));
  }
}

}  // namespace
}  // namespace sconce::rpc
