// Uploads through the real service over the real repository: with raw messages, and with the client library.
#include <atomic>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "storage/format/record_source.h"
#include "tests/integration/transfer_fixture.h"

namespace sconce {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Action = v1::UploadChunksResponse::Verdict;

constexpr int64_t kMib = 1 << 20;

// The bytes of a manifest's storages, in its bulk bytes.
client::PushSource SourceOf(const Content& content) {
  client::PushSource source;
  size_t at = 0;
  for (const format::Storage& storage : content.manifest.storages) {
    if (!format::IsBulk(storage)) {
      source.records.push_back(format::RecordSource::Plain(AsBytes(ToAbsl(storage.inline_bytes))));
      continue;
    }
    const auto size = static_cast<size_t>(storage.size_bytes);
    source.records.push_back(format::RecordSource::Plain(AsBytes(ToAbsl(content.bulk)).subspan(at, size)));
    at += size;
  }
  return source;
}

// By number.
std::vector<std::string> ChunksOf(const Content& content) {
  std::vector<std::string> chunks;
  size_t at = 0;
  for (const format::Storage& storage : content.manifest.storages) {
    if (!format::IsBulk(storage)) continue;
    const size_t end = at + static_cast<size_t>(storage.size_bytes);
    for (; at < end; at += chunks.back().size()) {
      chunks.push_back(content.bulk.substr(at, std::min<size_t>(format::kChunkBytes, end - at)));
    }
  }
  return chunks;
}

// A stream of UploadChunks in a test's hands.
class HandHeldStream {
 public:
  HandHeldStream(v1::TransferService::Stub& stub, const std::string& upload, int part, const std::string& manifest)
      : stream_(stub.UploadChunks(&context_)) {
    v1::UploadChunksRequest first;
    first.mutable_start()->set_upload(upload);
    first.mutable_start()->set_part(part);
    first.mutable_start()->set_manifest_bytes(static_cast<int64_t>(manifest.size()));
    stream_->Write(first);
    if (manifest.empty()) return;
    v1::UploadChunksRequest piece;
    piece.set_manifest(manifest);
    stream_->Write(piece);
  }

  // The next message; an empty one when the call is over.
  v1::UploadChunksResponse Read() {
    v1::UploadChunksResponse answer;
    stream_->Read(&answer);
    return answer;
  }
  // Proposes chunks; what the server wants of each.
  std::vector<Action::Action> Propose(const std::vector<std::pair<int64_t, std::string>>& chunks) {
    v1::UploadChunksRequest request;
    for (const auto& [number, bytes] : chunks) {
      v1::UploadChunksRequest::Proposal& proposal = *request.add_proposals();
      proposal.set_chunk(number);
      proposal.set_size_bytes(static_cast<int64_t>(bytes.size()));
      proposal.set_xxh3(std::string(ToStd(Xxh3(AsBytes(ToAbsl(bytes))).AsKey())));
    }
    stream_->Write(request);
    return Verdicts();
  }
  std::vector<Action::Action> Prove(int64_t number, const std::string& bytes) {
    v1::UploadChunksRequest request;
    request.add_proofs()->set_chunk(number);
    request.mutable_proofs(0)->set_sha256(std::string(ToStd(Sha256(AsBytes(ToAbsl(bytes))).AsKey())));
    stream_->Write(request);
    return Verdicts();
  }
  bool Send(int64_t chunk, int64_t offset, const std::string& data) {
    v1::UploadChunksRequest request;
    request.set_chunk(chunk);
    request.set_offset(offset);
    request.set_data(data);
    return stream_->Write(request);
  }
  // A whole chunk in messages that may be.
  void SendWhole(int64_t chunk, const std::string& bytes) {
    for (size_t at = 0; at < bytes.size(); at += wire::kMaxBulkDataBytes) {
      Send(chunk, static_cast<int64_t>(at), bytes.substr(at, wire::kMaxBulkDataBytes));
    }
  }
  bool Write(const v1::UploadChunksRequest& request) { return stream_->Write(request); }
  // Half-closes and reads to the end.
  absl::Status End() {
    stream_->WritesDone();
    for (v1::UploadChunksResponse answer; stream_->Read(&answer);) Note(answer);
    return wire::FromGrpcStatus(stream_->Finish());
  }
  void Cancel() {
    context_.TryCancel();
    stream_->Finish();
  }
  int64_t durable() const { return durable_; }

 private:
  std::vector<Action::Action> Verdicts() {
    std::vector<Action::Action> actions;
    for (v1::UploadChunksResponse answer; actions.empty() && stream_->Read(&answer);) {
      Note(answer);
      for (const Action& verdict : answer.verdicts()) actions.push_back(verdict.action());
    }
    return actions;
  }
  void Note(const v1::UploadChunksResponse& answer) {
    for (const v1::ChunkRange& range : answer.durable_chunks()) durable_ += range.last() - range.first() + 1;
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::UploadChunksRequest, v1::UploadChunksResponse>> stream_;
  int64_t durable_ = 0;  // chunks reported after the first message
};

class UploadTest : public TransferTest {
 protected:
  // A client of the running server. Waits are not waited for.
  std::unique_ptr<client::Client> Connect() {
    client::ClientOptions options;
    options.target = absl::StrCat("127.0.0.1:", port_);
    return client::Client::Connect(options);
  }

  static v1::BeginUploadRequest BeginRequest(const std::string& id, int parts = 1, const std::string& run = "r") {
    v1::BeginUploadRequest request;
    *request.mutable_header() = Header(run);
    request.set_upload_id(id);
    request.set_expected_parts(parts);
    return request;
  }
  static std::string UploadName(const std::string& id) { return "projects/default/runs/r/uploads/" + id; }

  template <typename Request, typename Answer>
  absl::StatusOr<Answer> Call(grpc::Status (v1::TransferService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                                Answer*),
                              const Request& request) {
    grpc::ClientContext context;
    Answer answer;
    const absl::Status status = wire::FromGrpcStatus(((*stub_).*method)(&context, request, &answer));
    if (!status.ok()) return status;
    return answer;
  }
  absl::StatusOr<v1::Upload> Begin(const std::string& id, int parts = 1) {
    return Call<v1::BeginUploadRequest, v1::Upload>(&v1::TransferService::Stub::BeginUpload, BeginRequest(id, parts));
  }
  absl::StatusOr<v1::Upload> Get(const std::string& id) {
    v1::GetUploadRequest request;
    request.set_name(UploadName(id));
    return Call<v1::GetUploadRequest, v1::Upload>(&v1::TransferService::Stub::GetUpload, request);
  }
  absl::StatusOr<v1::Checkpoint> Commit(const std::string& id) {
    v1::CommitUploadRequest request;
    request.set_name(UploadName(id));
    return Call<v1::CommitUploadRequest, v1::Checkpoint>(&v1::TransferService::Stub::CommitUpload, request);
  }
  absl::Status Abort(const std::string& id) {
    v1::AbortUploadRequest request;
    request.set_name(UploadName(id));
    return Call<v1::AbortUploadRequest, google::protobuf::Empty>(&v1::TransferService::Stub::AbortUpload, request)
        .status();
  }

  // Begin, all of one part, commit, with the client library.
  absl::StatusOr<v1::Checkpoint> PushUpload(const std::string& id, const Content& content,
                                            client::UploadReport* report = nullptr) {
    const auto client = Connect();
    const auto upload = client->BeginUpload(BeginRequest(id));
    if (!upload.ok()) return upload.status();
    const auto moved = client->UploadPart(upload->name(), 0, content.manifest, SourceOf(content));
    if (!moved.ok()) return moved.status();
    if (report != nullptr) *report = *moved;
    v1::CommitUploadRequest commit;
    commit.set_name(upload->name());
    return client->CommitUpload(commit);
  }

  void ExpectStored(const std::string& name, const Content& content) {
    const auto fetched = Fetch(name);
    ASSERT_OK(fetched.status);
    EXPECT_TRUE(fetched.data == content.bulk);
    ASSERT_OK_AND_ASSIGN(const format::Manifest manifest, format::DecodeManifest(AsBytes(ToAbsl(fetched.manifest))));
    EXPECT_TRUE(format::EncodeManifest(WithoutDigests(manifest)) == format::EncodeManifest(content.manifest));
  }
};

TEST_F(UploadTest, AnUploadBecomesTheVersionThatAPushWouldMake) {
  const Content content = Tensors({9 * kMib + 17, 3000, 500, 70'000, 4 * kMib});
  client::UploadReport report;
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint made, PushUpload("u", content, &report));
  EXPECT_EQ(made.version(), 1);
  EXPECT_EQ(made.epoch(), 3);  // from the tree
  EXPECT_EQ(report.sent_bytes, static_cast<int64_t>(content.bulk.size()));
  ExpectStored(made.name(), content);
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint pushed, Push(Header("other"), content));
  EXPECT_EQ(made.manifest_sha256(), pushed.manifest_sha256());
  EXPECT_EQ(made.logical_bytes(), pushed.logical_bytes());
  // Once more: the same version.
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint again, Commit("u"));
  EXPECT_EQ(again.name(), made.name());
  ASSERT_OK_AND_ASSIGN(const v1::Upload upload, Get("u"));
  EXPECT_EQ(upload.checkpoint(), made.name());
}

TEST_F(UploadTest, WhatTheProjectHasIsNeitherSentNorStored) {
  const Content content = Tensors({9 * kMib, 3000, 70'000, 4 * kMib});
  ASSERT_OK(PushUpload("first", content));
  client::UploadReport report;
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint again, PushUpload("second", content, &report));
  EXPECT_EQ(report.sent_bytes, 0);
  EXPECT_EQ(report.reused_bytes, static_cast<int64_t>(content.bulk.size()));
  EXPECT_EQ(again.version(), 2);
  EXPECT_EQ(again.stored_bytes(), 0);
  EXPECT_EQ(again.deduplicated_bytes(), static_cast<int64_t>(content.bulk.size()));
  ExpectStored(again.name(), content);
}

TEST_F(UploadTest, AHundredThousandSmallTensors) {
  const Content content = Tensors(std::vector<int64_t>(100'000, 1028));
  ASSERT_OK(PushUpload("u", content));
  ExpectStored(Name(), content);
  client::UploadReport report;
  ASSERT_OK(PushUpload("again", content, &report));
  EXPECT_EQ(report.sent_bytes, 0);
}

TEST_F(UploadTest, AnUploadGoesOnAfterARestart) {
  const Content content = Tensors({12 * kMib, 3000});
  const std::vector<std::string> chunks = ChunksOf(content);
  const std::string manifest = format::EncodeManifest(content.manifest);
  ASSERT_OK(Begin("u"));
  {
    HandHeldStream stream(*stub_, UploadName("u"), 0, manifest);
    EXPECT_EQ(stream.Read().chunk_count(), 4);
    EXPECT_THAT(stream.Propose({{1, chunks[1]}, {3, chunks[3]}}), ::testing::ElementsAre(Action::SEND, Action::SEND));
    stream.SendWhole(1, chunks[1]);
    stream.SendWhole(3, chunks[3]);
    ASSERT_OK(stream.End());
    EXPECT_EQ(stream.durable(), 2);
  }
  EXPECT_THAT(Commit("u"), FailsWith(Reason::UPLOAD_INCOMPLETE));
  Stop();
  Start();
  ASSERT_OK_AND_ASSIGN(const v1::Upload upload, Get("u"));
  ASSERT_EQ(upload.parts_size(), 1);
  EXPECT_EQ(upload.parts(0).chunk_count(), 4);
  EXPECT_EQ(upload.parts(0).manifest_sha256(), Sha256(AsBytes(ToAbsl(manifest))).Hex());
  ASSERT_EQ(upload.parts(0).durable_chunks_size(), 2);
  client::UploadReport report;
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint made, PushUpload("u", content, &report));
  EXPECT_EQ(report.sent_bytes, 8 * kMib);
  EXPECT_EQ(report.reused_bytes, 4 * kMib + 3000);
  ExpectStored(made.name(), content);
}

TEST_F(UploadTest, ACancelledStreamKeepsTheChunksThatWereWhole) {
  const Content content = Tensors({8 * kMib});
  const std::vector<std::string> chunks = ChunksOf(content);
  ASSERT_OK(Begin("u"));
  HandHeldStream stream(*stub_, UploadName("u"), 0, format::EncodeManifest(content.manifest));
  stream.Read();
  stream.Propose({{0, chunks[0]}, {1, chunks[1]}});
  stream.SendWhole(0, chunks[0]);
  stream.Send(1, 0, chunks[1].substr(0, 1000));
  stream.Cancel();
  client::UploadReport report;
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint made, PushUpload("u", content, &report));
  EXPECT_GE(report.sent_bytes, 4 * kMib);
  ExpectStored(made.name(), content);
}

TEST_F(UploadTest, AProofOfOtherContentIsAnsweredWithSend) {
  const Content stored = Tensors({4 * kMib});
  ASSERT_OK(PushUpload("first", stored));
  ASSERT_OK(Begin("u"));
  const std::string bytes = ChunksOf(stored)[0];
  HandHeldStream stream(*stub_, UploadName("u"), 0, format::EncodeManifest(stored.manifest));
  stream.Read();
  EXPECT_THAT(stream.Propose({{0, bytes}}), ::testing::ElementsAre(Action::PROVE));
  EXPECT_THAT(stream.Prove(0, "another content"), ::testing::ElementsAre(Action::SEND));
  EXPECT_THAT(stream.Prove(0, bytes), ::testing::ElementsAre(Action::HAVE));
  ASSERT_OK(stream.End());
  ASSERT_OK(Commit("u"));
}

TEST_F(UploadTest, TwoStreamsOfOnePartAtOnce) {
  const Content content = Tensors({16 * kMib, 3000, 16 * kMib});
  const std::vector<std::string> chunks = ChunksOf(content);
  const std::string manifest = format::EncodeManifest(content.manifest);
  ASSERT_OK(Begin("u"));
  const auto send = [&](size_t begin) {
    HandHeldStream stream(*stub_, UploadName("u"), 0, manifest);
    EXPECT_EQ(stream.Read().chunk_count(), 9);
    for (size_t i = begin; i < chunks.size(); i += 2) {
      stream.Propose({{static_cast<int64_t>(i), chunks[i]}});
      stream.SendWhole(static_cast<int64_t>(i), chunks[i]);
    }
    EXPECT_OK(stream.End());
  };
  std::thread other([&] { send(1); });
  send(0);
  other.join();
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint made, Commit("u"));
  ExpectStored(made.name(), content);
}

// {"model": {names[i]: uint8 tensor of 5 MiB, ...}}
Content Shard(const std::vector<std::string>& names, uint64_t seed) {
  format::ManifestBuilder b;
  const format::NodeIndex key = b.Str("model");
  format::ManifestBuilder::Items items;
  for (const std::string& name : names) {
    const format::NodeIndex name_key = b.Str(name);
    items.emplace_back(name_key, b.Tensor(b.Storage(5 * kMib), format::DType::kUInt8, {5 * kMib}));
  }
  const format::NodeIndex model = b.Dict(items);
  b.Dict({{key, model}});
  return Fill(b.Build(), seed);
}

TEST_F(UploadTest, RanksMakeOneVersionTogether) {
  constexpr int kRanks = 4;
  std::atomic<int> incomplete{0};
  Mutex mu;
  std::vector<std::string> versions;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      const Content part = Shard({absl::StrCat("a", rank), absl::StrCat("b", rank)}, 100 + static_cast<uint64_t>(rank));
      const auto client = Connect();
      const auto upload = client->BeginUpload(BeginRequest("step-1", kRanks));
      ASSERT_OK(upload);
      ASSERT_OK(client->UploadPart(upload->name(), rank, part.manifest, SourceOf(part)));
      v1::CommitUploadRequest commit;
      commit.set_name(upload->name());
      const auto made = client->CommitUpload(commit);
      if (!made.ok()) {
        EXPECT_THAT(made, FailsWith(Reason::UPLOAD_INCOMPLETE));
        ++incomplete;
        return;
      }
      MutexLock lock(&mu);
      versions.push_back(made->name());
    });
  }
  for (std::thread& rank : ranks) rank.join();
  ASSERT_GE(versions.size(), 1U);
  for (const std::string& version : versions) EXPECT_EQ(version, Name("1"));
  EXPECT_EQ(incomplete + static_cast<int>(versions.size()), kRanks);
  const auto fetched = Fetch(Name("1"));
  ASSERT_OK(fetched.status);
  EXPECT_EQ(fetched.data.size(), static_cast<size_t>(kRanks) * 2 * 5 * kMib);
}

TEST_F(UploadTest, MissingPartsAreNamedAndOverlapIsRefused) {
  const Content a = Shard({"a", "b"}, 1), b = Shard({"b", "c"}, 2);
  const auto client = Connect();
  ASSERT_OK_AND_ASSIGN(const v1::Upload upload, client->BeginUpload(BeginRequest("u", 2)));
  ASSERT_OK(client->UploadPart(upload.name(), 1, a.manifest, SourceOf(a)));
  EXPECT_THAT(Commit("u"), FailsWith(Reason::UPLOAD_INCOMPLETE, HasSubstr("0")));
  ASSERT_OK(client->UploadPart(upload.name(), 0, b.manifest, SourceOf(b)));
  EXPECT_THAT(Commit("u"), FailsWith(Reason::PARTS_OVERLAP, HasSubstr("/model/b")));
  ASSERT_OK(Abort("u"));
  EXPECT_THAT(Get("u"), FailsWith(Reason::UPLOAD_NOT_FOUND));
}

TEST_F(UploadTest, StreamsThatBreakTheOrderAreRefused) {
  const Content content = Tensors({8 * kMib});
  const std::string manifest = format::EncodeManifest(content.manifest);
  const std::vector<std::string> chunks = ChunksOf(content);
  ASSERT_OK(Begin("u"));
  const auto fails = [&](const std::vector<v1::UploadChunksRequest>& messages, const auto& matcher) {
    grpc::ClientContext context;
    const auto stream = stub_->UploadChunks(&context);
    for (const v1::UploadChunksRequest& message : messages) {
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    for (v1::UploadChunksResponse answer; stream->Read(&answer);) {
    }
    EXPECT_THAT(wire::FromGrpcStatus(stream->Finish()), matcher);
  };
  v1::UploadChunksRequest start, piece, data, question;
  start.mutable_start()->set_upload(UploadName("u"));
  start.mutable_start()->set_manifest_bytes(static_cast<int64_t>(manifest.size()));
  piece.set_manifest(manifest);
  data.set_data("d");
  const auto violated = [](const char* sentence) {
    return FailsWith(Reason::STREAM_PROTOCOL_VIOLATED, HasSubstr(sentence));
  };
  fails({}, violated("ended before its first message"));
  fails({data}, violated("no start"));
  fails({start}, violated("of the manifest's"));
  fails({start, data}, violated("before the end of the manifest"));
  fails({start, start}, violated("second start"));
  fails({start, piece, piece}, violated("after all of it"));
  v1::UploadChunksRequest other = start;
  other.mutable_start()->set_manifest_bytes(10);
  fails({other, piece}, violated("more manifest came"));
  other.mutable_start()->set_manifest_bytes(-1);
  fails({other}, FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("manifest_bytes")));
  other.mutable_start()->set_manifest_bytes(wire::kMaxManifestBytes + 1);
  fails({other}, FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  other.mutable_start()->set_upload(UploadName("none"));
  other.mutable_start()->set_manifest_bytes(3);
  fails({other}, FailsWith(Reason::UPLOAD_NOT_FOUND));
  other.mutable_start()->set_upload("projects/p");
  fails({other}, FailsWith(Reason::NAME_INVALID));
  question.add_proposals()->set_xxh3("short");
  fails({start, piece, question}, FailsWith(Reason::ARGUMENT_INVALID, AllOf(HasSubstr("xxh3"), HasSubstr("16"))));
  question.clear_proposals();
  question.add_proofs()->set_sha256("short");
  fails({start, piece, question}, FailsWith(Reason::ARGUMENT_INVALID, AllOf(HasSubstr("sha256"), HasSubstr("32"))));
  data.set_offset(5);
  fails({start, piece, data}, FailsWith(Reason::OFFSET_MISMATCH));
  data.set_offset(0);
  data.set_chunk(2);
  fails({start, piece, data}, FailsWith(Reason::OFFSET_OUT_OF_RANGE));
}

TEST_F(UploadTest, BytesThatAreNotWhatWasProposedAreRefused) {
  const Content content = Tensors({4 * kMib});
  const std::string bytes = ChunksOf(content)[0];
  ASSERT_OK(Begin("u"));
  HandHeldStream stream(*stub_, UploadName("u"), 0, format::EncodeManifest(content.manifest));
  stream.Read();
  stream.Propose({{0, bytes}});
  stream.SendWhole(0, std::string(bytes.size(), 'x'));
  EXPECT_THAT(stream.End(), FailsWith(Reason::DIGEST_MISMATCH));
  ASSERT_OK(PushUpload("u", content));
}

TEST_F(UploadTest, TheSameIdWithOtherWordsIsRefused) {
  ASSERT_OK(Begin("u"));
  ASSERT_OK(Begin("u"));
  EXPECT_THAT(Begin("u", 2), FailsWith(Reason::UPLOAD_ALREADY_EXISTS));
  EXPECT_THAT(Begin("a/b"), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(Begin("v", -1), FailsWith(Reason::ARGUMENT_INVALID));
  ASSERT_OK_AND_ASSIGN(const v1::Upload chosen, Begin(""));
  EXPECT_THAT(chosen.name(), ::testing::StartsWith(UploadName("")));
  EXPECT_THAT(Commit("none"), FailsWith(Reason::UPLOAD_NOT_FOUND));
  EXPECT_THAT(Abort("none"), FailsWith(Reason::UPLOAD_NOT_FOUND));
}

TEST_F(UploadTest, ARequestIdMakesOneVersionWhicheverUploadItComesFrom) {
  const Content content = Tensors({5 * kMib});
  const auto client = Connect();
  std::string first;
  for (const char* id : {"u", "v"}) {
    v1::BeginUploadRequest request = BeginRequest(id);
    request.mutable_header()->set_request_id("7b6a2f0e-5a0e-4b53-9d8c-2f7f3a1c0b11");
    ASSERT_OK_AND_ASSIGN(const v1::Upload upload, client->BeginUpload(request));
    ASSERT_OK(client->UploadPart(upload.name(), 0, content.manifest, SourceOf(content)));
    ASSERT_OK_AND_ASSIGN(const v1::Checkpoint made, Commit(id));
    if (first.empty()) first = made.name();
    EXPECT_EQ(made.name(), first);
  }
}

}  // namespace
}  // namespace sconce
