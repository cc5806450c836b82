#include "server/rpc/stream.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "proto/wire/status.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"

namespace sconce::rpc {
namespace {

constexpr CallSpec kWatch = {"sconce.v1.CheckpointService", "WatchCheckpoints", CallKind::kServerStream};

// A stream whose behaviour a test gives as a function, run once at the start.
class ScriptedStream final : public StreamCall<grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>> {
 public:
  using Script = std::function<void(ScriptedStream&)>;
  ScriptedStream(CallRuntime& runtime, grpc::CallbackServerContext* context, const Script& script,
                 std::function<void()> on_done)
      : StreamCall(runtime, context, kWatch), on_done_(std::move(on_done)) {
    if (Begin()) script(*this);
  }
  void OnDone() override {
    const std::function<void()> done = on_done_;
    StreamCall::OnDone();
    done();
  }
  using StreamCall::ending;
  using StreamCall::FinishOnce;
  using StreamCall::RunBlocking;
  using StreamCall::scope;

 private:
  const std::function<void()> on_done_;
};

class StreamTest : public ::testing::Test {
 protected:
  class Service final : public v1::CheckpointService::CallbackService {
   public:
    explicit Service(StreamTest& test) : test_(test) {}
    grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>* WatchCheckpoints(
        grpc::CallbackServerContext* context, const v1::WatchCheckpointsRequest*) override {
      return new ScriptedStream(*test_.runtime_, context, test_.script_, [this] {
        MutexLock lock(&test_.mu_);
        ++test_.deleted_;
        test_.changed_.SignalAll();
      });
    }

   private:
    StreamTest& test_;
  };

  void Serve(ScriptedStream::Script script) {
    script_ = std::move(script);
    runtime_.emplace(options_);
    service_ = std::make_unique<Service>(*this);
    server_ = std::make_unique<InProcessServer>(std::vector<grpc::Service*>{service_.get()});
    stub_ = v1::CheckpointService::NewStub(server_->channel());
  }
  absl::Status Call(grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    const auto reader = stub_->WatchCheckpoints(context != nullptr ? context : &own, {});
    v1::WatchCheckpointsResponse response;
    while (reader->Read(&response)) {
    }
    return wire::FromGrpcStatus(reader->Finish());
  }
  void AwaitDeleted(int count) {
    MutexLock lock(&mu_);
    while (deleted_ < count) changed_.Wait(&mu_);
  }

  RuntimeOptions options_;
  ScriptedStream::Script script_;
  std::optional<CallRuntime> runtime_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<InProcessServer> server_;
  std::unique_ptr<v1::CheckpointService::Stub> stub_;
  Mutex mu_;
  CondVar changed_;
  int deleted_ ABSL_GUARDED_BY(mu_) = 0;
};

TEST_F(StreamTest, TheFirstStatusCounts) {
  Serve([](ScriptedStream& stream) {
    stream.FinishOnce(MakeError(Reason::RUN_NOT_FOUND, "first"));
    stream.FinishOnce(absl::OkStatus());
  });
  EXPECT_THAT(Call(), FailsWith(Reason::RUN_NOT_FOUND, "first"));
  AwaitDeleted(1);
}

TEST_F(StreamTest, TheCallDoesNotEndUnderARunningTask) {
  Mutex mu;
  CondVar changed;
  bool asked_to_end = false;
  std::atomic<bool> task_ended{false};
  Serve([&](ScriptedStream& stream) {
    stream.RunBlocking([&] {
      MutexLock lock(&mu);
      while (!asked_to_end) changed.Wait(&mu);
      EXPECT_TRUE(stream.ending()) << "the object is there";
      task_ended = true;
    });
    stream.FinishOnce(MakeError(Reason::RUN_NOT_FOUND, "over"));
    EXPECT_FALSE(stream.RunBlocking([] { FAIL() << "no task starts after the end"; }));
    MutexLock lock(&mu);
    asked_to_end = true;
    changed.SignalAll();
  });
  EXPECT_THAT(Call(), FailsWith(Reason::RUN_NOT_FOUND));
  EXPECT_TRUE(task_ended);
  AwaitDeleted(1);
}

TEST_F(StreamTest, ACancelledStreamEndsByItself) {
  Mutex mu;
  CondVar changed;
  bool began = false;
  Serve([&](ScriptedStream&) {
    MutexLock lock(&mu);
    began = true;
    changed.SignalAll();
  });
  grpc::ClientContext context;
  std::thread caller([&] { EXPECT_EQ(Call(&context).code(), absl::StatusCode::kCancelled); });
  {
    MutexLock lock(&mu);
    while (!began) changed.Wait(&mu);
  }
  context.TryCancel();
  caller.join();
  AwaitDeleted(1);
}

TEST_F(StreamTest, CancellingWaitsForTheTask) {
  Mutex mu;
  CondVar changed;
  bool began = false;
  Serve([&](ScriptedStream& stream) {
    stream.RunBlocking([&] {
      {
        MutexLock lock(&mu);
        began = true;
        changed.SignalAll();
      }
      while (!stream.scope().cancelled()) std::this_thread::yield();
      EXPECT_THAT(stream.scope().CheckCancelled(), FailsWith(Reason::CALL_CANCELLED));
    });
  });
  grpc::ClientContext context;
  std::thread caller([&] { EXPECT_EQ(Call(&context).code(), absl::StatusCode::kCancelled); });
  {
    MutexLock lock(&mu);
    while (!began) changed.Wait(&mu);
  }
  context.TryCancel();
  caller.join();
  AwaitDeleted(1);
}

TEST_F(StreamTest, AFullPoolEndsTheStreamAsOverloaded) {
  options_.stream_threads = 1;
  options_.queue_limit = 1;
  Mutex mu;
  CondVar changed;
  bool release = false;
  Serve([&](ScriptedStream& stream) {
    const auto wait = [&] {
      MutexLock lock(&mu);
      while (!release) changed.Wait(&mu);
    };
    // One running, one queued, one too many; whether the first has left the queue yet does not matter for a fourth.
    bool all = true;
    for (int i = 0; i < 4; ++i) all = stream.RunBlocking(wait) && all;
    EXPECT_FALSE(all);
    EXPECT_TRUE(stream.ending());
    MutexLock lock(&mu);
    release = true;
    changed.SignalAll();
  });
  EXPECT_THAT(Call(), FailsWith(Reason::SERVER_OVERLOADED));
  AwaitDeleted(1);
}

TEST_F(StreamTest, ADrainingServerRefusesStreams) {
  Serve([](ScriptedStream&) { FAIL() << "refused before it begins"; });
  runtime_->StartDraining();
  EXPECT_THAT(Call(), FailsWith(Reason::SERVER_DRAINING));
  AwaitDeleted(1);
}

}  // namespace
}  // namespace sconce::rpc
