#include "client/cpp/client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <numeric>

#include "proto/wire/status.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "sconce/v1/transfer_service.grpc.pb.h"
#include "storage/format/manifest_codec.h"
#include "tests/support/status_matchers.h"

namespace sconce::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Checksum(const std::string& data) {
  return std::string(ToStd(Xxh3(AsBytes(data)).AsKey()));
}

// A server that plays a scene written by the test, and notes what it was asked.
class ScriptedServer final : public v1::TransferService::Service {
 public:
  std::function<grpc::Status(const v1::ExportCheckpointRequest&, grpc::ServerWriter<v1::ExportCheckpointResponse>&)>
      on_export;
  std::function<grpc::Status(const v1::FetchCheckpointRequest&, grpc::ServerWriter<v1::FetchCheckpointResponse>&)>
      on_fetch;
  std::function<grpc::Status(const std::vector<v1::PushCheckpointRequest>&, v1::Checkpoint&)> on_push;

  ScriptedServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    target_ = "127.0.0.1:" + std::to_string(port);
  }
  const std::string& target() const { return target_; }

  grpc::Status ExportCheckpoint(grpc::ServerContext*, const v1::ExportCheckpointRequest* request,
                                grpc::ServerWriter<v1::ExportCheckpointResponse>* writer) override {
    return on_export(*request, *writer);
  }
  grpc::Status FetchCheckpoint(grpc::ServerContext*, const v1::FetchCheckpointRequest* request,
                               grpc::ServerWriter<v1::FetchCheckpointResponse>* writer) override {
    return on_fetch(*request, *writer);
  }
  grpc::Status PushCheckpoint(grpc::ServerContext*, grpc::ServerReader<v1::PushCheckpointRequest>* reader,
                              v1::Checkpoint* answer) override {
    std::vector<v1::PushCheckpointRequest> messages;
    for (v1::PushCheckpointRequest message; reader->Read(&message);) messages.push_back(message);
    return on_push(messages, *answer);
  }

 private:
  std::unique_ptr<grpc::Server> server_;
  std::string target_;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    ClientOptions options;
    options.target = server_.target();
    options.retry.sleep = [this](absl::Duration wait) { waits_.push_back(wait); };
    client_ = Client::Connect(options);
  }

  ScriptedServer server_;
  std::vector<absl::Duration> waits_;
  std::unique_ptr<Client> client_;
};

const grpc::Status kBroken(grpc::StatusCode::UNAVAILABLE, "connection lost");

v1::ExportCheckpointResponse ExportHeader(int64_t file_bytes) {
  v1::ExportCheckpointResponse message;
  message.mutable_header()->mutable_checkpoint()->set_name("projects/p/runs/r/checkpoints/7");
  message.mutable_header()->set_plan("plan-7");
  message.mutable_header()->set_file_bytes(file_bytes);
  return message;
}

v1::ExportCheckpointResponse ExportData(int64_t offset, const std::string& data) {
  v1::ExportCheckpointResponse message;
  message.set_offset(offset);
  message.set_data(data);
  message.set_xxh3(Checksum(data));
  return message;
}

TEST_F(ClientTest, ABrokenDownloadGoesOnWhereItBroke) {
  std::vector<v1::ExportCheckpointRequest> asked;
  server_.on_export = [&](const v1::ExportCheckpointRequest& request, auto& writer) {
    asked.push_back(request);
    writer.Write(ExportHeader(10));
    if (asked.size() == 1) {
      writer.Write(ExportData(0, "0123"));
      return kBroken;
    }
    writer.Write(ExportData(4, "456"));
    writer.Write(ExportData(7, "789"));
    return grpc::Status::OK;
  };
  v1::ExportCheckpointRequest request;
  request.set_name("projects/p/runs/r/checkpoints/best");
  std::string got;
  ASSERT_OK_AND_ASSIGN(const auto header, client_->ExportCheckpoint(request, [&](ByteSpan bytes) {
    got += std::string(ToStd(AsText(bytes)));
    return absl::OkStatus();
  }));
  EXPECT_EQ(got, "0123456789");
  EXPECT_EQ(header.plan(), "plan-7");
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0].name(), "projects/p/runs/r/checkpoints/best");
  EXPECT_EQ(asked[1].name(), "projects/p/runs/r/checkpoints/7");  // never another version that became best meanwhile
  EXPECT_EQ(asked[1].plan(), "plan-7");
  EXPECT_EQ(asked[1].offset(), 4);
  EXPECT_EQ(waits_.size(), 1U);
}

TEST_F(ClientTest, ADamagedPieceIsAskedForAgainAndNeverSeen) {
  int tries = 0;
  server_.on_export = [&](const v1::ExportCheckpointRequest& request, auto& writer) {
    writer.Write(ExportHeader(4));
    v1::ExportCheckpointResponse message = ExportData(request.offset(), "good");
    if (++tries == 1) message.set_data("evil");
    writer.Write(message);
    return grpc::Status::OK;
  };
  std::string got;
  ASSERT_OK(client_->ExportCheckpoint({}, [&](ByteSpan bytes) {
    got += std::string(ToStd(AsText(bytes)));
    return absl::OkStatus();
  }));
  EXPECT_EQ(got, "good");
  EXPECT_EQ(tries, 2);
}

TEST_F(ClientTest, ATruncatedDownloadIsAnError) {
  server_.on_export = [&](const v1::ExportCheckpointRequest&, auto& writer) {
    writer.Write(ExportHeader(10));
    writer.Write(ExportData(0, "0123"));
    return grpc::Status::OK;
  };
  EXPECT_THAT(client_->ExportCheckpoint({}, [](ByteSpan) { return absl::OkStatus(); }),
              FailsWith(Reason::INTERNAL_ERROR, HasSubstr("4 bytes of 10")));
}

TEST_F(ClientTest, AFailingSinkEndsTheDownloadWithItsError) {
  server_.on_export = [&](const v1::ExportCheckpointRequest&, auto& writer) {
    writer.Write(ExportHeader(1 << 30));
    while (writer.Write(ExportData(0, "0123"))) {  // for ever, unless the client cancels
    }
    return grpc::Status::OK;
  };
  EXPECT_THAT(client_->ExportCheckpoint({}, [](ByteSpan) { return MakeError(Reason::DISK_FULL, "full"); }),
              FailsWith(Reason::DISK_FULL));
}

TEST_F(ClientTest, ErrorsOfTheServerKeepTheirReasonAndAreNotTriedAgain) {
  int tries = 0;
  server_.on_export = [&](const v1::ExportCheckpointRequest&, auto&) {
    ++tries;
    return wire::ToGrpcStatus(MakeError(Reason::BEST_UNDEFINED, "no version has loss", {{"metric", "loss"}}));
  };
  EXPECT_THAT(client_->ExportCheckpoint({}, [](ByteSpan) { return absl::OkStatus(); }),
              FailsWith(Reason::BEST_UNDEFINED, HasSubstr("loss")));
  EXPECT_EQ(tries, 1);
}

TEST_F(ClientTest, TriesEndWithTheLastError) {
  int tries = 0;
  server_.on_export = [&](const v1::ExportCheckpointRequest&, auto&) {
    ++tries;
    return kBroken;
  };
  EXPECT_THAT(client_->ExportCheckpoint({}, [](ByteSpan) { return absl::OkStatus(); }),
              FailsWith(Reason::SERVER_UNREACHABLE, HasSubstr("connection lost")));
  EXPECT_EQ(tries, RetryPolicy().max_attempts);
}

// Two bulk storages with an inline and a meta one between them.
format::Manifest SmallManifest() {
  format::Manifest manifest;
  manifest.storages.resize(4);
  manifest.storages[0].size_bytes = 3 << 20;
  manifest.storages[1].size_bytes = 4;
  manifest.storages[1].inline_bytes = "abcd";
  manifest.storages[2].size_bytes = 1 << 20;
  manifest.storages[2].device = "meta";
  manifest.storages[3].size_bytes = 2000;
  format::Node root;
  root.kind = format::NodeKind::kList;
  for (format::StorageIndex i = 0; i < 4; ++i) {
    format::Node node;
    node.kind = format::NodeKind::kStorage;
    node.text = "untyped";
    node.integer = i;
    manifest.nodes.push_back(node);
    root.children.push_back(i);
  }
  manifest.nodes.push_back(root);
  return manifest;
}

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 131 >> 3);
  return bytes;
}

TEST_F(ClientTest, APushIsTriedAgainUnderTheSameRequestId) {
  const format::Manifest manifest = SmallManifest();
  const std::string first = Pattern(3 << 20), last = Pattern(2000);
  std::vector<std::string> request_ids;
  std::string bulk, encoded;
  size_t largest = 0;
  server_.on_push = [&](const std::vector<v1::PushCheckpointRequest>& messages, v1::Checkpoint& answer) {
    request_ids.push_back(messages.at(0).header().request_id());
    bulk.clear();
    encoded.clear();
    for (const auto& message : messages) {
      encoded += message.manifest();
      if (!message.data().empty()) {
        EXPECT_EQ(message.offset(), static_cast<int64_t>(bulk.size()));
        EXPECT_EQ(message.xxh3(), Checksum(message.data()));
      }
      bulk += message.data();
      largest = std::max(largest, message.data().size());
    }
    if (request_ids.size() == 1) return kBroken;
    answer.set_version(3);
    return grpc::Status::OK;
  };
  const std::string inline_bytes = "abcd";
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint pushed,
                       client_->PushCheckpoint({}, manifest,
                                               {{format::RecordSource::Plain(AsBytes(first)),
                                                 format::RecordSource::Plain(AsBytes(inline_bytes)),
                                                 {},
                                                 format::RecordSource::Plain(AsBytes(last))},
                                                nullptr}));
  EXPECT_EQ(pushed.version(), 3);
  ASSERT_EQ(request_ids.size(), 2U);
  EXPECT_EQ(request_ids[0].size(), 36U);
  EXPECT_EQ(request_ids[0], request_ids[1]);
  EXPECT_EQ(bulk, first + last);
  EXPECT_EQ(largest, size_t{2} << 20);
  EXPECT_EQ(encoded, format::EncodeManifest(manifest));
}

TEST_F(ClientTest, APushWithTheWrongBytesMovesNothing) {
  server_.on_push = [](const std::vector<v1::PushCheckpointRequest>& messages, v1::Checkpoint&) {
    ADD_FAILURE() << "a push of " << messages.size() << " messages was let through";
    return grpc::Status::OK;
  };
  EXPECT_THAT(client_->PushCheckpoint({}, SmallManifest(), {}), FailsWith(Reason::ARGUMENT_INVALID));
}

TEST_F(ClientTest, AFetchIsPutTogetherFromABrokenAndAContinuedStream) {
  const format::Manifest manifest = SmallManifest();
  const std::string encoded = format::EncodeManifest(manifest);
  const std::string bulk = Pattern(3 << 20) + Pattern(2000);
  std::vector<v1::FetchCheckpointRequest> asked;
  server_.on_fetch = [&](const v1::FetchCheckpointRequest& request, auto& writer) {
    asked.push_back(request);
    v1::FetchCheckpointResponse header;
    header.mutable_header()->set_plan("plan");
    header.mutable_header()->set_bulk_bytes(static_cast<int64_t>(bulk.size()));
    writer.Write(header);
    if (!request.skip_manifest()) {
      for (size_t i = 0; i < encoded.size(); i += 10) {
        v1::FetchCheckpointResponse piece;
        piece.set_manifest(encoded.substr(i, 10));
        writer.Write(piece);
      }
    }
    const auto begin = static_cast<size_t>(request.offset());
    const size_t end = asked.size() == 1 ? size_t{2} << 20 : bulk.size();
    for (size_t i = begin; i < end; i += 1 << 20) {
      v1::FetchCheckpointResponse piece;
      piece.set_offset(static_cast<int64_t>(i));
      piece.set_data(bulk.substr(i, std::min<size_t>(1 << 20, end - i)));
      piece.set_xxh3(Checksum(piece.data()));
      writer.Write(piece);
    }
    return asked.size() == 1 ? kBroken : grpc::Status::OK;
  };
  ASSERT_OK_AND_ASSIGN(const FetchedCheckpoint fetched, client_->FetchCheckpoint({}));
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[1].plan(), "plan");
  EXPECT_EQ(asked[1].offset(), 2 << 20);
  EXPECT_TRUE(asked[1].skip_manifest());
  ASSERT_EQ(fetched.bytes.size(), 4U);
  const auto text = [&](size_t i) { return std::string(fetched.bytes[i].begin(), fetched.bytes[i].end()); };
  EXPECT_EQ(text(0), Pattern(3 << 20));
  EXPECT_EQ(text(1), "abcd");
  EXPECT_EQ(text(2), "");
  EXPECT_EQ(text(3), Pattern(2000));
}

TEST(RetryLoopTest, WaitsLongerEachTimeWithinACeiling) {
  std::vector<absl::Duration> waits;
  RetryPolicy policy;
  policy.max_attempts = 100;
  policy.sleep = [&](absl::Duration wait) { waits.push_back(wait); };
  RetryLoop loop(policy);
  for (int i = 0; i < 99; ++i) EXPECT_TRUE(loop.ShouldRetry(absl::UnavailableError("x")));
  EXPECT_FALSE(loop.ShouldRetry(absl::UnavailableError("x")));
  EXPECT_FALSE(RetryLoop(policy).ShouldRetry(absl::InternalError("x")));
  EXPECT_LE(waits[0], policy.initial_backoff);
  EXPECT_LE(*std::max_element(waits.begin(), waits.end()), policy.max_backoff);
  EXPECT_GT(*std::max_element(waits.begin(), waits.end()), policy.max_backoff / 2);
}

TEST(RequestIdTest, IsAFreshUuidOfVersionFour) {
  const std::string id = NewRequestId();
  EXPECT_EQ(id.size(), 36U);
  EXPECT_EQ(id[14], '4');
  EXPECT_NE(id, NewRequestId());
}

}  // namespace
}  // namespace sconce::client
