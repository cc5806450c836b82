#include "server/rpc/call.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "tests/unit/server/rpc/call_fixture.h"

namespace sconce::rpc {
namespace {

using ::testing::HasSubstr;

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
  server_.reset();
  runtime_.reset();  // the line is written when the answer has left, by a thread that this waits for
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

}  // namespace
}  // namespace sconce::rpc
