#include "server/rpc/download_reactor.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/mutex.h"
#include "proto/wire/bulk_message.h"
#include "proto/wire/status.h"
#include "sconce/v1/transfer_service.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace sconce::rpc {
namespace {

constexpr CallSpec kFetch = {"sconce.v1.TransferService", "FetchCheckpoint", CallKind::kServerStream};

// How a source behaves and what became of it; outlives it.
struct Script {
  int messages = 3;
  size_t message_bytes = 10;
  bool pause_between = false;  // ask to be called again before each message
  absl::Status end;
  std::atomic<int> made{0};

  Mutex mu;
  CondVar changed;
  bool destroyed ABSL_GUARDED_BY(mu) = false;
};

class ScriptedSource : public DownloadSource {
 public:
  explicit ScriptedSource(Script& script) : script_(script) {}
  ~ScriptedSource() override {
    MutexLock lock(&script_.mu);
    script_.destroyed = true;
    script_.changed.SignalAll();
  }
  absl::StatusOr<Flow> Next(CallScope&, std::optional<grpc::ByteBuffer>& message) override {
    if (script_.pause_between && (paused_ = !paused_)) return Flow::kMore;
    if (script_.made == script_.messages) return script_.end.ok() ? absl::StatusOr<Flow>(Flow::kDone) : script_.end;
    const std::string data(script_.message_bytes, static_cast<char>('a' + script_.made % 26));
    message = wire::EncodeBulkData(script_.made++, {wire::Share(data)});
    return Flow::kMore;
  }

 private:
  Script& script_;
  bool paused_ = false;
};

class Service final : public v1::TransferService::WithRawCallbackMethod_FetchCheckpoint<v1::TransferService::Service> {
 public:
  Service(CallRuntime& runtime, Script& script) : runtime_(runtime), script_(script) {}
  grpc::ServerWriteReactor<grpc::ByteBuffer>* FetchCheckpoint(grpc::CallbackServerContext* context,
                                                              const grpc::ByteBuffer* request) override {
    return new DownloadReactor(runtime_, context, kFetch, static_cast<int64_t>(request->Length()),
                               std::make_unique<ScriptedSource>(script_));
  }

 private:
  CallRuntime& runtime_;
  Script& script_;
};

class DownloadReactorTest : public ::testing::Test {
 protected:
  DownloadReactorTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    // With a flow control window that does not grow with the connection's speed, what lies in it is the same on every
    // machine.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = v1::TransferService::NewStub(
        grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments));
  }
  ~DownloadReactorTest() override { server_->Shutdown(); }

  // Reads to the end, expecting the messages in order, into `count`.
  absl::Status Fetch(int& count) {
    grpc::ClientContext context;
    const auto reader = stub_->FetchCheckpoint(&context, v1::FetchCheckpointRequest());
    v1::FetchCheckpointResponse message;
    for (count = 0; reader->Read(&message); ++count) {
      EXPECT_EQ(message.offset(), count);
      EXPECT_EQ(message.data().size(), script_.message_bytes);
      ahead_ = std::max(ahead_, script_.made - count);
    }
    return wire::FromGrpcStatus(reader->Finish());
  }

  Script script_;
  CallRuntime runtime_{RuntimeOptions{}};
  Service service_{runtime_, script_};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::TransferService::Stub> stub_;
  int ahead_ = 0;  // messages made before the reader had them, at most
};

TEST_F(DownloadReactorTest, SendsEveryMessageInOrder) {
  int count = 0;
  ASSERT_OK(Fetch(count));
  EXPECT_EQ(count, 3);
  script_.made = 0;
  script_.messages = 500;
  script_.pause_between = true;
  ASSERT_OK(Fetch(count));
  EXPECT_EQ(count, 500);
}

TEST_F(DownloadReactorTest, ASourceWithoutMessagesEndsTheCall) {
  script_.messages = 0;
  int count = -1;
  ASSERT_OK(Fetch(count));
  EXPECT_EQ(count, 0);
}

TEST_F(DownloadReactorTest, AnErrorComesAfterTheMessagesBeforeIt) {
  script_.messages = 7;
  script_.end = MakeError(Reason::CHUNK_CORRUPT, "rotten");
  int count = 0;
  EXPECT_THAT(Fetch(count), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_EQ(count, 7);
}

TEST_F(DownloadReactorTest, MakesOnlyAFewMessagesBeforeTheReaderTakesThem) {
  script_.messages = 60;
  script_.message_bytes = 2 << 20;
  int count = 0;
  ASSERT_OK(Fetch(count));
  EXPECT_EQ(count, 60);
  EXPECT_LE(ahead_, 10);  // two here, the others in sockets and flow control windows
}

TEST_F(DownloadReactorTest, CancellingDestroysTheSource) {
  script_.messages = 1'000'000;
  script_.message_bytes = 100'000;
  {
    grpc::ClientContext context;
    const auto reader = stub_->FetchCheckpoint(&context, v1::FetchCheckpointRequest());
    v1::FetchCheckpointResponse message;
    ASSERT_TRUE(reader->Read(&message));
    context.TryCancel();
    while (reader->Read(&message)) {
    }
    EXPECT_THAT(wire::FromGrpcStatus(reader->Finish()), FailsWith(Reason::CALL_CANCELLED));
  }
  MutexLock lock(&script_.mu);
  while (!script_.destroyed) script_.changed.Wait(&script_.mu);
  EXPECT_LT(script_.made, 10'000);
}

TEST_F(DownloadReactorTest, ADrainingServerRefuses) {
  runtime_.StartDraining();
  int count = 0;
  EXPECT_THAT(Fetch(count), FailsWith(Reason::SERVER_DRAINING));
  EXPECT_EQ(script_.made, 0);
}

}  // namespace
}  // namespace sconce::rpc
