#include "server/rpc/dialog_reactor.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "proto/wire/bulk_message.h"
#include "proto/wire/limits.h"
#include "proto/wire/status.h"
#include "sconce/v1/transfer_service.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace sconce::rpc {
namespace {

using ::testing::ElementsAre;

constexpr CallSpec kSpec = {"sconce.v1.TransferService", "UploadChunks", CallKind::kBidiStream};

// What a dialog does and what it saw; outlives it.
struct Script {
  Mutex mu;
  CondVar changed;
  std::vector<int64_t> taken ABSL_GUARDED_BY(mu);
  int ends ABSL_GUARDED_BY(mu) = 0;
  bool destroyed ABSL_GUARDED_BY(mu) = false;
  bool hold ABSL_GUARDED_BY(mu) = false;  // Take waits while it is set

  // Constant while a call runs.
  int64_t fails_at = -1;
  int64_t answers_each = 1;
  int ranges_each = 0;  // in each answer: what makes it large
  int talks = 0;        // says so many things of its own accord, on another thread

  size_t Taken() {
    MutexLock lock(&mu);
    return taken.size();
  }
  void AwaitTaken(size_t count) {
    MutexLock lock(&mu);
    while (taken.size() < count) changed.Wait(&mu);
  }
  void AwaitDestroyed() {
    MutexLock lock(&mu);
    while (!destroyed) changed.Wait(&mu);
  }
  void Hold(bool on) {
    MutexLock lock(&mu);
    hold = on;
    changed.SignalAll();
  }
};

grpc::ByteBuffer Answer(int64_t chunk, int ranges = 0) {
  v1::UploadChunksResponse answer;
  for (int i = 0; i < ranges; ++i) answer.add_durable_chunks()->set_last(1'000'000);
  answer.set_chunk_count(chunk);
  return wire::EncodeMessage(answer);
}

class ScriptedDialog final : public Dialog {
 public:
  ScriptedDialog(Script& script, Say say) : script_(script), say_(std::move(say)) {
    talker_ = std::thread([this] {
      for (int64_t i = 0; i < script_.talks; ++i) say_(Answer(1'000'000 + i));
    });
  }
  ~ScriptedDialog() override {
    talker_.join();
    MutexLock lock(&script_.mu);
    script_.destroyed = true;
    script_.changed.SignalAll();
  }

  absl::Status Take(CallScope&, const grpc::ByteBuffer& buffer) override {
    v1::UploadChunksRequest message;
    if (absl::Status status = wire::DecodeMessage(buffer, message); !status.ok()) return status;
    {
      MutexLock lock(&script_.mu);
      while (script_.hold) script_.changed.Wait(&script_.mu);
      script_.taken.push_back(message.chunk());
      script_.changed.SignalAll();
    }
    if (message.chunk() == script_.fails_at) return MakeError(Reason::DISK_FULL, "no room");
    for (int64_t i = 0; i < script_.answers_each; ++i) say_(Answer(message.chunk(), script_.ranges_each));
    return absl::OkStatus();
  }
  absl::Status End(CallScope&) override {
    say_(Answer(-1));
    MutexLock lock(&script_.mu);
    ++script_.ends;
    return absl::OkStatus();
  }

 private:
  Script& script_;
  const Say say_;
  std::thread talker_;
};

class Service final : public v1::TransferService::WithRawCallbackMethod_UploadChunks<v1::TransferService::Service> {
 public:
  Service(CallRuntime& runtime, Script& script) : runtime_(runtime), script_(script) {}
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* UploadChunks(
      grpc::CallbackServerContext* context) override {
    return new DialogReactor(runtime_, context, kSpec, [this](Dialog::Say say) {
      return std::make_unique<ScriptedDialog>(script_, std::move(say));
    });
  }

 private:
  CallRuntime& runtime_;
  Script& script_;
};

class DialogReactorTest : public ::testing::Test {
 protected:
  using Stream = grpc::ClientReaderWriter<v1::UploadChunksRequest, v1::UploadChunksResponse>;

  explicit DialogReactorTest(const RuntimeOptions& options = {}) : runtime_(options) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(64 << 20);
    server_ = builder.BuildAndStart();
    stub_ = v1::TransferService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }
  ~DialogReactorTest() override { server_->Shutdown(); }

  static v1::UploadChunksRequest Message(int64_t chunk, size_t data_bytes = 0) {
    v1::UploadChunksRequest request;
    request.set_chunk(chunk);
    request.set_data(std::string(data_bytes, 'x'));
    return request;
  }
  static std::vector<int64_t> ReadAll(Stream& stream) {
    std::vector<int64_t> got;
    for (v1::UploadChunksResponse answer; stream.Read(&answer);) got.push_back(answer.chunk_count());
    return got;
  }

  Script script_;
  CallRuntime runtime_;
  Service service_{runtime_, script_};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::TransferService::Stub> stub_;
};

TEST_F(DialogReactorTest, AnswersEachMessageInOrderAndEndsWithTheLastAnswer) {
  grpc::ClientContext context;
  const auto stream = stub_->UploadChunks(&context);
  for (int64_t i = 0; i < 3; ++i) ASSERT_TRUE(stream->Write(Message(i)));
  stream->WritesDone();
  EXPECT_THAT(ReadAll(*stream), ElementsAre(0, 1, 2, -1));
  EXPECT_TRUE(stream->Finish().ok());
  script_.AwaitDestroyed();
}

TEST_F(DialogReactorTest, AnErrorEndsTheCallAndNothingIsTakenAfterIt) {
  script_.fails_at = 2;
  grpc::ClientContext context;
  const auto stream = stub_->UploadChunks(&context);
  for (int64_t i = 0; i < 10; ++i) {
    if (!stream->Write(Message(i))) break;
  }
  ReadAll(*stream);
  EXPECT_THAT(wire::FromGrpcStatus(stream->Finish()), FailsWith(Reason::DISK_FULL));
  MutexLock lock(&script_.mu);
  EXPECT_THAT(script_.taken, ElementsAre(0, 1, 2));
  EXPECT_EQ(script_.ends, 0);
  EXPECT_TRUE(script_.destroyed);
}

TEST_F(DialogReactorTest, AClientThatDoesNotReadIsReadNoFurther) {
  script_.answers_each = 400;
  script_.ranges_each = 10'000;  // 24 MB: more than flow control lets go
  grpc::ClientContext context;
  const auto stream = stub_->UploadChunks(&context);
  for (int64_t i = 0; i < 3; ++i) ASSERT_TRUE(stream->Write(Message(i)));
  script_.AwaitTaken(1);
  std::vector<int64_t> got;
  v1::UploadChunksResponse answer;
  for (int i = 0; i < 10 && stream->Read(&answer); ++i) got.push_back(answer.chunk_count());
  // The first message's answers still wait, so no other one was taken.
  EXPECT_EQ(script_.Taken(), 1U);
  stream->WritesDone();
  const std::vector<int64_t> rest = ReadAll(*stream);
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(got.size() + rest.size(), 3 * 400 + 1);
  EXPECT_EQ(rest.back(), -1);
  EXPECT_EQ(script_.Taken(), 3U);
}

TEST_F(DialogReactorTest, AtMostTwoMessagesAreInMemory) {
  script_.Hold(true);
  grpc::ClientContext context;
  const auto stream = stub_->UploadChunks(&context);
  std::thread writer([&] {
    for (int64_t i = 0; i < 20; ++i) {
      if (!stream->Write(Message(i, 2 << 20))) break;
    }
    stream->WritesDone();
  });
  while (runtime_.bytes_in_flight() == 0) std::this_thread::yield();
  EXPECT_LE(runtime_.bytes_in_flight(), 2 * ((2 << 20) + 64));
  script_.Hold(false);
  ReadAll(*stream);
  EXPECT_TRUE(stream->Finish().ok());
  writer.join();
  EXPECT_EQ(script_.Taken(), 20U);
  EXPECT_EQ(runtime_.bytes_in_flight(), 0);
}

TEST_F(DialogReactorTest, WhatItSaysOfItsOwnAccordRacesWithEveryKindOfEnd) {
  script_.talks = 50;
  for (int round = 0; round < 60; ++round) {
    {
      MutexLock lock(&script_.mu);
      script_.destroyed = false;
      script_.taken.clear();
    }
    script_.fails_at = round % 3 == 1 ? 5 : -1;
    grpc::ClientContext context;
    const auto stream = stub_->UploadChunks(&context);
    std::thread writer([&] {
      for (int64_t i = 0; i < 10; ++i) {
        if (!stream->Write(Message(i))) return;
      }
      stream->WritesDone();
    });
    v1::UploadChunksResponse answer;
    if (round % 3 == 2) {
      ASSERT_TRUE(stream->Read(&answer));
      context.TryCancel();
    }
    while (stream->Read(&answer)) {
    }
    writer.join();
    const absl::Status status = wire::FromGrpcStatus(stream->Finish());
    switch (round % 3) {
      case 0:
        EXPECT_OK(status);
        break;
      case 1:
        EXPECT_THAT(status, FailsWith(Reason::DISK_FULL));
        break;
      default:
        EXPECT_THAT(status, FailsWith(Reason::CALL_CANCELLED));
    }
    script_.AwaitDestroyed();
  }
}

TEST_F(DialogReactorTest, RefusesMessagesAboveTheLimit) {
  grpc::ClientContext context;
  const auto stream = stub_->UploadChunks(&context);
  stream->Write(Message(0, wire::kMaxMessageBytes));
  ReadAll(*stream);
  EXPECT_THAT(wire::FromGrpcStatus(stream->Finish()), FailsWith(Reason::MESSAGE_TOO_LARGE));
  EXPECT_EQ(script_.Taken(), 0U);
}

TEST_F(DialogReactorTest, ADrainingServerRefuses) {
  runtime_.StartDraining();
  grpc::ClientContext context;
  const auto stream = stub_->UploadChunks(&context);
  ReadAll(*stream);
  EXPECT_THAT(wire::FromGrpcStatus(stream->Finish()), FailsWith(Reason::SERVER_DRAINING));
}

// One thread and one place in the queue.
class FullPoolTest : public DialogReactorTest {
 protected:
  static RuntimeOptions Narrow() {
    RuntimeOptions options;
    options.stream_threads = 1;
    options.queue_limit = 1;
    return options;
  }
  FullPoolTest() : DialogReactorTest(Narrow()) {}
};

TEST_F(FullPoolTest, AStreamWithoutAThreadEndsAsOverloaded) {
  script_.Hold(true);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 6; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(stub_->UploadChunks(contexts.back().get()));
    ASSERT_TRUE(streams.back()->Write(Message(i)));
  }
  int overloaded = 0;
  // Two of them have the thread and the place; which ones is open, so all are read to their end.
  std::thread release([this] {
    script_.AwaitDestroyed();  // of one that was refused
    script_.Hold(false);
  });
  for (const auto& stream : streams) {
    stream->WritesDone();
    ReadAll(*stream);
    const absl::Status status = wire::FromGrpcStatus(stream->Finish());
    if (HasReason(status, Reason::SERVER_OVERLOADED)) ++overloaded;
  }
  release.join();
  EXPECT_GE(overloaded, 1);
}

}  // namespace
}  // namespace sconce::rpc
