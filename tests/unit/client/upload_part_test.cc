// Client::UploadPart against a server that keeps uploads in memory and breaks streams when the test says so.
#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "proto/wire/limits.h"
#include "proto/wire/status.h"
#include "sconce/v1/transfer_service.grpc.pb.h"
#include "storage/format/manifest_codec.h"
#include "tests/support/status_matchers.h"

namespace sconce::client {
namespace {

using ::testing::HasSubstr;
using Action = v1::UploadChunksResponse::Verdict;

constexpr int64_t kMib = 1 << 20;
const grpc::Status kBroken(grpc::StatusCode::UNAVAILABLE, "connection lost");

std::string Bytes(int64_t size, uint32_t seed) {
  std::string bytes(static_cast<size_t>(size), '\0');
  for (char& c : bytes) c = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  return bytes;
}

// Bulk storages of these sizes, each a member of the list that is the checkpoint, with their bytes.
struct Content {
  explicit Content(const std::vector<int64_t>& sizes) {
    format::Node root;
    root.kind = format::NodeKind::kList;
    for (size_t i = 0; i < sizes.size(); ++i) {
      format::Storage storage;
      storage.size_bytes = sizes[i];
      bytes.push_back(Bytes(sizes[i], static_cast<uint32_t>(i + 1)));
      if (!format::IsBulk(storage)) storage.inline_bytes = bytes[i];
      manifest.storages.push_back(storage);
      format::Node node;
      node.kind = format::NodeKind::kStorage;
      node.text = "untyped";
      node.integer = static_cast<int64_t>(i);
      manifest.nodes.push_back(node);
      root.children.push_back(static_cast<format::NodeIndex>(i));
    }
    manifest.nodes.push_back(root);
  }
  PushSource source() const {
    PushSource result;
    for (const std::string& one : bytes) result.records.push_back(format::RecordSource::Plain(AsBytes(ToAbsl(one))));
    return result;
  }
  // By number.
  std::vector<std::string> chunks() const {
    std::vector<std::string> result;
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (!format::IsBulk(manifest.storages[i])) continue;
      for (size_t at = 0; at < bytes[i].size(); at += format::kChunkBytes) {
        result.push_back(bytes[i].substr(at, format::kChunkBytes));
      }
    }
    return result;
  }

  format::Manifest manifest;
  std::vector<std::string> bytes;
};

// What the server side of the protocol does, without a disk.
class MemoryServer final : public v1::TransferService::Service {
  using Stream = grpc::ServerReaderWriter<v1::UploadChunksResponse, v1::UploadChunksRequest>;

 public:
  // What the test sets.
  std::vector<std::string> chunks;  // of the part, by number: what must come
  std::set<std::string> stored;     // contents of other versions: proposed, they are to be proved
  std::set<int64_t> lie;            // chunks whose fingerprint meets other content
  std::function<bool(int stream, int64_t data_messages)> breaks = [](int, int64_t) { return false; };
  std::function<v1::UploadChunksResponse(v1::UploadChunksResponse)> garble;  // of the first answer
  bool forget_last = false;

  // What it saw, of all streams.
  int streams = 0;
  std::string manifest;
  int64_t manifest_messages = 0, data_messages = 0, data_bytes = 0, proofs = 0, proposals = 0, proposal_messages = 0;
  std::vector<int64_t> sent;  // each time a chunk was begun
  std::set<int64_t> durable;

  MemoryServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    target_ = "127.0.0.1:" + std::to_string(port);
  }
  const std::string& target() const { return target_; }

  grpc::Status GetUpload(grpc::ServerContext*, const v1::GetUploadRequest* request, v1::Upload* answer) override {
    answer->set_name(request->name());
    if (manifest.empty()) return grpc::Status::OK;
    v1::Upload::Part& part = *answer->add_parts();
    part.set_part(2);
    part.set_manifest_complete(true);
    part.set_manifest_sha256(Sha256(AsBytes(ToAbsl(manifest))).Hex());
    return grpc::Status::OK;
  }

  grpc::Status UploadChunks(grpc::ServerContext*, Stream* stream) override {
    ++streams;
    v1::UploadChunksRequest request;
    if (!stream->Read(&request) || request.start().part() != 2) return {grpc::StatusCode::INVALID_ARGUMENT, "start"};
    EXPECT_EQ(request.start().upload(), "projects/p/runs/r/uploads/u");
    int64_t left = request.start().manifest_bytes();
    if (left > 0) manifest.clear();
    while (left > 0 && stream->Read(&request)) {
      ++manifest_messages;
      EXPECT_LE(request.manifest().size(), static_cast<size_t>(wire::kMaxManifestPieceBytes));
      manifest += request.manifest();
      left -= static_cast<int64_t>(request.manifest().size());
    }
    v1::UploadChunksResponse first = Durable();
    first.set_chunk_count(static_cast<int64_t>(chunks.size()));
    stream->Write(garble ? garble(first) : first);

    std::map<int64_t, std::string> proposed, arriving;
    int64_t messages = 0;
    while (stream->Read(&request)) {
      v1::UploadChunksResponse answer;
      const auto say = [&](int64_t chunk, Action::Action action) {
        answer.add_verdicts()->set_chunk(chunk);
        answer.mutable_verdicts()->rbegin()->set_action(action);
      };
      if (!request.proposals().empty()) ++proposal_messages;
      for (const auto& proposal : request.proposals()) {
        ++proposals;
        const std::string& content = chunks.at(static_cast<size_t>(proposal.chunk()));
        EXPECT_EQ(proposal.size_bytes(), static_cast<int64_t>(content.size()));
        EXPECT_EQ(ToAbsl(proposal.xxh3()), Xxh3(AsBytes(ToAbsl(content))).AsKey());
        EXPECT_EQ(durable.count(proposal.chunk()), 0U) << "a durable chunk was proposed";
        proposed[proposal.chunk()] = proposal.xxh3();
        const bool known = stored.count(content) != 0 || lie.count(proposal.chunk()) != 0;
        say(proposal.chunk(), known ? Action::PROVE : Action::SEND);
      }
      for (const auto& proof : request.proofs()) {
        ++proofs;
        const std::string& content = chunks.at(static_cast<size_t>(proof.chunk()));
        EXPECT_EQ(ToAbsl(proof.sha256()), Sha256(AsBytes(ToAbsl(content))).AsKey());
        const bool same = lie.count(proof.chunk()) == 0;
        if (same) durable.insert(proof.chunk());
        say(proof.chunk(), same ? Action::HAVE : Action::SEND);
      }
      if (!request.data().empty()) {
        ++messages;
        if (breaks(streams, messages)) return kBroken;
        Take(request, proposed, arriving);
      }
      if (answer.ByteSizeLong() > 0) stream->Write(answer);
    }
    if (forget_last) return grpc::Status::OK;
    stream->Write(Durable());
    return grpc::Status::OK;
  }

 private:
  v1::UploadChunksResponse Durable() const {
    v1::UploadChunksResponse answer;
    for (const int64_t chunk : durable) {
      v1::ChunkRange& range = *answer.add_durable_chunks();
      range.set_first(chunk);
      range.set_last(chunk);
    }
    return answer;
  }

  void Take(const v1::UploadChunksRequest& request, const std::map<int64_t, std::string>& proposed,
            std::map<int64_t, std::string>& arriving) {
    ++data_messages;
    data_bytes += static_cast<int64_t>(request.data().size());
    EXPECT_LE(request.data().size(), static_cast<size_t>(wire::kMaxBulkDataBytes));
    int64_t chunk = request.chunk();
    int64_t offset = request.offset();
    for (size_t at = 0; at < request.data().size(); offset = 0, ++chunk) {
      const std::string& content = chunks.at(static_cast<size_t>(chunk));
      EXPECT_EQ(proposed.count(chunk), 1U);
      std::string& got = arriving[chunk];
      EXPECT_EQ(offset, static_cast<int64_t>(got.size()));
      if (offset == 0) sent.push_back(chunk);
      const size_t size = std::min(request.data().size() - at, content.size() - got.size());
      got += request.data().substr(at, size);
      at += size;
      if (got.size() < content.size()) continue;
      EXPECT_TRUE(got == content) << chunk;
      durable.insert(chunk);
    }
  }

  std::unique_ptr<grpc::Server> server_;
  std::string target_;
};

class UploadPartTest : public ::testing::Test {
 protected:
  // gRPC shuts down with its last object, and waits up to ten seconds then for its poller if a connection just broke:
  // not after every test.
  static void SetUpTestSuite() { grpc_init(); }
  static void TearDownTestSuite() { grpc_shutdown(); }

  UploadPartTest() {
    ClientOptions options;
    options.target = server_.target();
    options.retry.sleep = [this](absl::Duration wait) { waits_.push_back(wait); };
    client_ = Client::Connect(options);
  }

  absl::StatusOr<UploadReport> Upload(const Content& content) {
    server_.chunks = content.chunks();
    return client_->UploadPart("projects/p/runs/r/uploads/u", 2, content.manifest, content.source());
  }
  static int64_t BulkBytes(const Content& content) { return format::BulkBytes(content.manifest); }

  MemoryServer server_;
  std::vector<absl::Duration> waits_;
  std::unique_ptr<Client> client_;
};

TEST_F(UploadPartTest, NewChunksAreSentOnceWithoutAProof) {
  const Content content({9 * kMib + 17, 500, 4 * kMib, 2000, 3000});
  ASSERT_OK_AND_ASSIGN(const UploadReport report, Upload(content));
  EXPECT_EQ(server_.manifest, format::EncodeManifest(content.manifest));
  EXPECT_EQ(server_.durable.size(), content.chunks().size());
  EXPECT_EQ(server_.proofs, 0);
  EXPECT_EQ(server_.streams, 1);
  EXPECT_EQ(report.bulk_bytes, BulkBytes(content));
  EXPECT_EQ(report.sent_bytes, BulkBytes(content));
  EXPECT_EQ(report.reused_bytes, 0);
  EXPECT_EQ(server_.data_bytes, BulkBytes(content));
}

TEST_F(UploadPartTest, StoredChunksAreProvedAndNotSent) {
  const Content content({9 * kMib, 4 * kMib, 2000});
  for (const std::string& chunk : content.chunks()) server_.stored.insert(chunk);
  ASSERT_OK_AND_ASSIGN(const UploadReport report, Upload(content));
  EXPECT_EQ(server_.data_messages, 0);
  EXPECT_EQ(server_.proofs, 5);
  EXPECT_EQ(report.sent_bytes, 0);
  EXPECT_EQ(report.reused_bytes, BulkBytes(content));
}

TEST_F(UploadPartTest, AProofOfOtherContentIsFollowedByTheBytes) {
  const Content content({4 * kMib, 4 * kMib, 2000});
  server_.lie = {1};
  ASSERT_OK_AND_ASSIGN(const UploadReport report, Upload(content));
  EXPECT_EQ(server_.proofs, 1);
  EXPECT_EQ(server_.durable.size(), 3U);
  EXPECT_EQ(report.sent_bytes, BulkBytes(content));
}

TEST_F(UploadPartTest, ManySmallChunksShareMessages) {
  const Content content(std::vector<int64_t>(20'000, 1100));
  ASSERT_OK(Upload(content));
  EXPECT_EQ(server_.proposals, 20'000);
  EXPECT_LE(server_.proposal_messages, 30);
  EXPECT_LE(server_.data_messages, 40);  // 21 MiB
  EXPECT_EQ(server_.durable.size(), 20'000U);
}

TEST_F(UploadPartTest, ABrokenStreamIsFollowedByOneThatSendsTheRest) {
  const Content content({40 * kMib, 2000, 3 * kMib});
  server_.breaks = [](int stream, int64_t messages) { return stream == 1 && messages == 10; };
  ASSERT_OK_AND_ASSIGN(const UploadReport report, Upload(content));
  EXPECT_EQ(server_.streams, 2);
  EXPECT_EQ(waits_.size(), 1U);
  EXPECT_EQ(server_.manifest_messages, 1);  // the server had it
  EXPECT_EQ(server_.durable.size(), content.chunks().size());
  // Of the first stream four chunks were whole, and one had come in half.
  EXPECT_EQ(std::count(server_.sent.begin(), server_.sent.end(), 0), 1);
  EXPECT_EQ(std::count(server_.sent.begin(), server_.sent.end(), 3), 1);
  EXPECT_EQ(std::count(server_.sent.begin(), server_.sent.end(), 4), 2);
  EXPECT_EQ(server_.data_bytes, BulkBytes(content) + 2 * kMib);
  EXPECT_GE(report.sent_bytes, server_.data_bytes);  // what was on its way when it broke counts too
  EXPECT_EQ(report.reused_bytes, 0);
}

TEST_F(UploadPartTest, WhatAnEarlierProcessSentIsNotSentAgain) {
  const Content content({40 * kMib});
  server_.manifest = format::EncodeManifest(content.manifest);
  server_.durable = {0, 1, 2, 7};
  ASSERT_OK_AND_ASSIGN(const UploadReport report, Upload(content));
  EXPECT_EQ(server_.manifest_messages, 0);
  EXPECT_EQ(report.sent_bytes, 24 * kMib);
  EXPECT_EQ(report.reused_bytes, 16 * kMib);
}

TEST_F(UploadPartTest, AnotherManifestOfThePartIsSentAgain) {
  server_.manifest = "of another file";
  const Content content({4 * kMib});
  ASSERT_OK(Upload(content));
  EXPECT_EQ(server_.manifest, format::EncodeManifest(content.manifest));
}

TEST_F(UploadPartTest, TriesWithoutProgressEnd) {
  server_.breaks = [](int, int64_t) { return true; };
  EXPECT_THAT(Upload(Content({4 * kMib})), FailsWith(Reason::SERVER_UNREACHABLE, HasSubstr("connection lost")));
  EXPECT_EQ(server_.streams, ClientOptions().upload_attempts);
}

TEST_F(UploadPartTest, ProgressStartsTheCountAgain) {
  server_.breaks = [](int stream, int64_t messages) { return stream <= 30 && messages == 3; };  // a chunk each
  const Content content({160 * kMib});
  ASSERT_OK(Upload(content));
  EXPECT_GT(server_.streams, 2 * ClientOptions().upload_attempts);
}

TEST_F(UploadPartTest, ADamagedRecordEndsItBeforeItsLastChunk) {
  const Content content({6 * kMib});
  server_.chunks = content.chunks();
  PushSource source = content.source();
  source.records[0].crc32 = 1;
  source.records[0].name = "data/0";
  EXPECT_THAT(client_->UploadPart("projects/p/runs/r/uploads/u", 2, content.manifest, source),
              FailsWith(Reason::FILE_MALFORMED, HasSubstr("data/0")));
  EXPECT_EQ(server_.streams, 1);
  EXPECT_EQ(server_.durable.count(1), 0U);
}

TEST_F(UploadPartTest, AServerThatCountsOtherwiseIsNotBelieved) {
  server_.garble = [](v1::UploadChunksResponse first) {
    first.set_chunk_count(first.chunk_count() + 1);
    return first;
  };
  EXPECT_THAT(Upload(Content({4 * kMib})), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("counts 2 chunks")));
  server_.garble = [](v1::UploadChunksResponse first) {
    first.add_verdicts()->set_chunk(0);
    first.add_durable_chunks()->set_last(7);
    return first;
  };
  EXPECT_THAT(Upload(Content({4 * kMib})), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("speaks of chunks")));
}

TEST_F(UploadPartTest, AnEndWithoutEverythingDurableIsAnError) {
  server_.forget_last = true;
  EXPECT_THAT(Upload(Content({4 * kMib})), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("0 of 1 chunks durable")));
}

TEST_F(UploadPartTest, TheWrongBytesMoveNothing) {
  const Content content({4 * kMib});
  EXPECT_THAT(client_->UploadPart("projects/p/runs/r/uploads/u", 2, content.manifest, {}),
              FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_EQ(server_.streams, 0);
}

TEST_F(UploadPartTest, ACheckpointWithoutBulkIsItsManifest) {
  const Content content({100});
  ASSERT_OK_AND_ASSIGN(const UploadReport report, Upload(content));
  EXPECT_EQ(report.bulk_bytes, 0);
  EXPECT_EQ(server_.manifest, format::EncodeManifest(content.manifest));
}

}  // namespace
}  // namespace sconce::client
