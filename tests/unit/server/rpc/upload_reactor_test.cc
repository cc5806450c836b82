#include "server/rpc/upload_reactor.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "proto/wire/limits.h"
#include "proto/wire/status.h"
#include "sconce/v1/transfer_service.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace sconce::rpc {
namespace {

using ::testing::HasSubstr;

constexpr CallSpec kPush = {"sconce.v1.TransferService", "PushCheckpoint", CallKind::kClientStream};

// What a sink saw and how it behaves; outlives it.
struct Script {
  Mutex mu;
  CondVar changed;
  std::string parent ABSL_GUARDED_BY(mu);
  std::string manifest ABSL_GUARDED_BY(mu);
  std::string data ABSL_GUARDED_BY(mu);
  int ends ABSL_GUARDED_BY(mu) = 0;
  bool destroyed ABSL_GUARDED_BY(mu) = false;

  // Constant while a call runs.
  absl::Status begin_status, data_status;
  int ends_before_answer = 1;

  void AwaitData(size_t size_bytes) {
    MutexLock lock(&mu);
    while (data.size() < size_bytes) changed.Wait(&mu);
  }
  void AwaitDestroyed() {
    MutexLock lock(&mu);
    while (!destroyed) changed.Wait(&mu);
  }
  int Ends() {
    MutexLock lock(&mu);
    return ends;
  }
};

class ScriptedSink : public UploadSink {
 public:
  explicit ScriptedSink(Script& script) : script_(script) {}
  ~ScriptedSink() override {
    MutexLock lock(&script_.mu);
    script_.destroyed = true;
    script_.changed.SignalAll();
  }
  absl::Status Begin(CallScope&, const wire::BulkMessage& first) override {
    v1::PushHeader header;
    if (absl::Status status = first.ReadHeader(header); !status.ok()) return status;
    MutexLock lock(&script_.mu);
    script_.parent = header.parent();
    return script_.begin_status;
  }
  absl::Status TakeManifest(const std::vector<ByteSpan>& pieces) override {
    MutexLock lock(&script_.mu);
    Append(pieces, script_.manifest);
    return absl::OkStatus();
  }
  absl::Status TakeData(CallScope&, const std::vector<ByteSpan>& pieces) override {
    MutexLock lock(&script_.mu);
    Append(pieces, script_.data);
    script_.changed.SignalAll();
    return script_.data_status;
  }
  absl::StatusOr<std::optional<grpc::ByteBuffer>> End(CallScope&) override {
    MutexLock lock(&script_.mu);
    if (++script_.ends < script_.ends_before_answer) return std::optional<grpc::ByteBuffer>();
    v1::Checkpoint answer;
    answer.set_name("stored");
    return std::optional<grpc::ByteBuffer>(wire::EncodeMessage(answer));
  }

 private:
  static void Append(const std::vector<ByteSpan>& pieces, std::string& text) {
    for (const ByteSpan piece : pieces) text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }

  Script& script_;
};

class Service final : public v1::TransferService::WithRawCallbackMethod_PushCheckpoint<v1::TransferService::Service> {
 public:
  Service(CallRuntime& runtime, Script& script) : runtime_(runtime), script_(script) {}
  grpc::ServerReadReactor<grpc::ByteBuffer>* PushCheckpoint(grpc::CallbackServerContext* context,
                                                            grpc::ByteBuffer* response) override {
    return new UploadReactor(runtime_, context, kPush, response, std::make_unique<ScriptedSink>(script_));
  }

 private:
  CallRuntime& runtime_;
  Script& script_;
};

class UploadReactorTest : public ::testing::Test {
 protected:
  UploadReactorTest() {
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(64 << 20);
    server_ = builder.BuildAndStart();
    stub_ = v1::TransferService::NewStub(server_->InProcessChannel({}));
  }
  ~UploadReactorTest() override { server_->Shutdown(); }

  static v1::PushCheckpointRequest Header() {
    v1::PushCheckpointRequest request;
    request.mutable_header()->set_parent("projects/p/runs/r");
    return request;
  }
  static v1::PushCheckpointRequest Data(const std::string& data) {
    v1::PushCheckpointRequest request;
    request.set_data(data);
    return request;
  }
  static v1::PushCheckpointRequest Manifest(const std::string& manifest) {
    v1::PushCheckpointRequest request;
    request.set_manifest(manifest);
    return request;
  }

  // Sends the messages and the end; what comes of it.
  absl::Status Push(const std::vector<v1::PushCheckpointRequest>& messages, bool end = true) {
    grpc::ClientContext context;
    const auto writer = stub_->PushCheckpoint(&context, &answer_);
    for (const v1::PushCheckpointRequest& message : messages) {
      if (!writer->Write(message)) break;  // the server has already answered
    }
    if (end) writer->WritesDone();
    return wire::FromGrpcStatus(writer->Finish());
  }

  Script script_;
  CallRuntime runtime_{RuntimeOptions{}};
  Service service_{runtime_, script_};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::TransferService::Stub> stub_;
  v1::Checkpoint answer_;
};

TEST_F(UploadReactorTest, DeliversHeaderManifestAndDataInOrderAndAnswers) {
  script_.ends_before_answer = 3;
  v1::PushCheckpointRequest checked = Data("def");
  checked.set_offset(3);
  checked.set_xxh3(std::string(ToStd(Xxh3(AsBytes("def")).AsKey())));
  ASSERT_OK(Push({Header(), Manifest("ab"), Manifest("cd"), Data("abc"), checked, Data(""), Data("g")}));
  EXPECT_EQ(answer_.name(), "stored");
  MutexLock lock(&script_.mu);
  EXPECT_EQ(script_.parent, "projects/p/runs/r");
  EXPECT_EQ(script_.manifest, "abcd");
  EXPECT_EQ(script_.data, "abcdefg");
  EXPECT_EQ(script_.ends, 3);
}

TEST_F(UploadReactorTest, DeliversManyMessagesWhole) {
  std::vector<v1::PushCheckpointRequest> messages = {Header()};
  std::string all;
  for (int i = 0; i < 300; ++i) {
    const std::string piece(static_cast<size_t>(i * 97 % 5000), static_cast<char>(i));
    messages.push_back(Data(piece));
    all += piece;
  }
  ASSERT_OK(Push(messages));
  MutexLock lock(&script_.mu);
  EXPECT_EQ(script_.data, all);
}

TEST_F(UploadReactorTest, RefusesStreamsThatBreakTheOrder) {
  const auto expect = [this](const std::vector<v1::PushCheckpointRequest>& messages, const char* sentence) {
    EXPECT_THAT(Push(messages), FailsWith(Reason::STREAM_PROTOCOL_VIOLATED, HasSubstr(sentence)));
  };
  v1::PushCheckpointRequest header_and_data = Header(), manifest_and_data = Manifest("m");
  header_and_data.set_data("d");
  manifest_and_data.set_data("d");
  expect({}, "ended before its first message");
  expect({Data("d")}, "no header");
  expect({Manifest("m")}, "no header");
  expect({header_and_data}, "more than a header");
  expect({Header(), Header()}, "a second header");
  expect({Header(), Data("d"), Manifest("m")}, "after data");
  expect({Header(), manifest_and_data}, "in one message");
  EXPECT_EQ(script_.Ends(), 0);
}

TEST_F(UploadReactorTest, RefusesWrongOffsetsAndChecksums) {
  v1::PushCheckpointRequest piece = Data("def");
  piece.set_offset(4);
  EXPECT_THAT(Push({Header(), Data("abc"), piece}), FailsWith(Reason::OFFSET_MISMATCH, HasSubstr("offset 3 is next")));
  piece.set_offset(3);
  piece.set_xxh3(std::string(16, 'x'));
  EXPECT_THAT(Push({Header(), Data("abc"), piece}), FailsWith(Reason::DIGEST_MISMATCH));
  EXPECT_EQ(script_.Ends(), 0);
}

TEST_F(UploadReactorTest, RefusesMessagesAboveTheLimit) {
  EXPECT_THAT(Push({Header(), Data(std::string(wire::kMaxMessageBytes, 'x'))}), FailsWith(Reason::MESSAGE_TOO_LARGE));
  EXPECT_EQ(script_.Ends(), 0);
}

TEST_F(UploadReactorTest, IgnoresWhatANewerClientAddsAndRefusesBytesThatAreNoMessage) {
  v1::PushCheckpointRequest message = Header();
  message.mutable_header()->GetReflection()->MutableUnknownFields(message.mutable_header())->AddVarint(7, 1);
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(9, 1);
  ASSERT_OK(Push({message}));
  message.GetReflection()->MutableUnknownFields(&message)->AddLengthDelimited(1, "\x0a\x7f");
  EXPECT_THAT(Push({message}), FailsWith(Reason::STREAM_PROTOCOL_VIOLATED, HasSubstr("PushHeader")));
}

TEST_F(UploadReactorTest, AnErrorOfTheSinkEndsTheCallAtOnce) {
  script_.begin_status = MakeError(Reason::RUN_NOT_FOUND, "no such run");
  EXPECT_THAT(Push({Header()}, /*end=*/false), FailsWith(Reason::RUN_NOT_FOUND));
  script_.begin_status = absl::OkStatus();
  script_.data_status = MakeError(Reason::DISK_FULL, "no room");
  EXPECT_THAT(Push({Header(), Data("a"), Data("b")}, /*end=*/false), FailsWith(Reason::DISK_FULL));
  EXPECT_EQ(script_.Ends(), 0);
}

TEST_F(UploadReactorTest, CancellingDestroysTheSinkWithoutEndingIt) {
  for (int round = 0; round < 50; ++round) {
    {
      grpc::ClientContext context;
      const auto writer = stub_->PushCheckpoint(&context, &answer_);
      ASSERT_TRUE(writer->Write(Header()));
      ASSERT_TRUE(writer->Write(Data("abc")));
      script_.AwaitData(3);
      context.TryCancel();
      EXPECT_THAT(wire::FromGrpcStatus(writer->Finish()), FailsWith(Reason::CALL_CANCELLED));
    }
    script_.AwaitDestroyed();
    EXPECT_EQ(script_.Ends(), 0);
    MutexLock lock(&script_.mu);
    script_.destroyed = false;
    script_.data.clear();
  }
}

TEST_F(UploadReactorTest, ADrainingServerRefuses) {
  runtime_.StartDraining();
  EXPECT_THAT(Push({Header()}), FailsWith(Reason::SERVER_DRAINING));
  EXPECT_EQ(script_.Ends(), 0);
}

}  // namespace
}  // namespace sconce::rpc
