#include "server/rpc/unary.h"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tests/unit/server/rpc/call_fixture.h"

namespace sconce::rpc {
namespace {

using ::testing::HasSubstr;
using UnaryTest = CallTest;

TEST_F(UnaryTest, TheHandlersAnswerArrives) {
  Serve(Ok);
  const Answer answer = Call("projects/p/runs/r");
  EXPECT_OK(answer.status);
  EXPECT_EQ(answer.run.name(), "projects/p/runs/r");
  EXPECT_EQ(answer.request_id.size(), 32u) << "made by the server";
  EXPECT_NE(answer.request_id, Call().request_id);
}

TEST_F(UnaryTest, TheHandlersErrorArrivesWithReasonAndRequestId) {
  Serve([](CallScope&, const v1::GetRunRequest&, v1::Run& run) {
    run.set_name("half done");
    return MakeError(Reason::RUN_NOT_FOUND, "no run \"r\"", {{"run", "r"}});
  });
  const Answer answer = Call();
  EXPECT_THAT(answer.status, FailsWith(Reason::RUN_NOT_FOUND, "no run \"r\""));
  EXPECT_EQ(answer.run.name(), "") << "an error sends no response";
  EXPECT_FALSE(answer.request_id.empty());
}

TEST_F(UnaryTest, AFullPoolRefusesInsteadOfWaiting) {
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

TEST_F(UnaryTest, ACancelledCallTellsItsHandlerAndIsLoggedAsCancelled) {
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

TEST_F(UnaryTest, APassedDeadlineIsToldApartFromACancellation) {
  std::atomic<bool> entered{false};
  Serve([&](CallScope& scope, const v1::GetRunRequest&, v1::Run&) {
    entered = true;
    Event told;
    scope.OnCancel([&told] { told.Set(); });
    told.Await();
    return scope.CheckCancelled();
  });
  // On a busy machine a deadline may pass before the call has left.
  while (!entered) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    EXPECT_THAT(Call("x", &context).status, FailsWith(Reason::CALL_DEADLINE_EXCEEDED));
  }
  EXPECT_EQ(observer_.AwaitResult(1).code, absl::StatusCode::kDeadlineExceeded);
}

TEST_F(UnaryTest, ACallWhoseDeadlinePassesInTheQueueNeverRuns) {
  TurnableClock clock;
  options_.clock = &clock;
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
  absl::Status late;
  std::thread waiting([&] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
    late = Call("x", &context).status;
  });
  observer_.AwaitStarted(2);
  clock.Advance(absl::Hours(2));
  leave.Set();
  blocking.join();
  waiting.join();
  EXPECT_THAT(late, FailsWith(Reason::CALL_DEADLINE_EXCEEDED));
  EXPECT_EQ(ran, 1);
}

TEST_F(UnaryTest, AnAsynchronousHandlerAnswersLaterFromAnyThread) {
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

TEST_F(UnaryTest, CallsOfLaterReleasesSayWhatToDoInstead) {
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
