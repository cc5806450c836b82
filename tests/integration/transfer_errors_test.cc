// Every error TransferService promises comes with its reason, and changes nothing.
#include "tests/integration/transfer_fixture.h"

namespace sconce {
namespace {

using ::testing::HasSubstr;

class TransferErrorsTest : public TransferTest {
 protected:
  // `messages` are refused so, and the store is as it was.
  void ExpectPushFails(const std::vector<v1::PushCheckpointRequest>& messages, Reason reason,
                       const char* sentence = "") {
    const std::string before = Snapshot();
    EXPECT_THAT(Push(messages), FailsWith(reason, HasSubstr(sentence)));
    EXPECT_EQ(Snapshot(), before);
  }
  void ExpectPushFails(const v1::PushHeader& header, const Content& content, Reason reason, const char* sentence = "") {
    ExpectPushFails(PushMessages(header, format::EncodeManifest(content.manifest), content.bulk), reason, sentence);
  }
  void ExpectImportFails(const v1::ImportCheckpointRequest::Header& header, const std::string& file, Reason reason,
                         const char* sentence = "") {
    const std::string before = Snapshot();
    EXPECT_THAT(Import(header, file), FailsWith(reason, HasSubstr(sentence)));
    EXPECT_EQ(Snapshot(), before);
  }
  void ExpectModuleFails(const v1::PushModuleRequest::Header& header, const std::string& file, Reason reason) {
    const std::string before = Snapshot();
    EXPECT_THAT(PushModule(header, file), FailsWith(reason));
    EXPECT_EQ(Snapshot(), before);
  }
  void ExpectFetchFails(const v1::FetchCheckpointRequest& request, Reason reason, const char* sentence = "") {
    const auto fetched = Fetch(request);
    EXPECT_THAT(fetched.status, FailsWith(reason, HasSubstr(sentence)));
    EXPECT_EQ(fetched.messages, 0);
  }
  void ExpectExportFails(const v1::ExportCheckpointRequest& request, Reason reason, const char* sentence = "") {
    const auto exported = Export(request);
    EXPECT_THAT(exported.status, FailsWith(reason, HasSubstr(sentence)));
    EXPECT_EQ(exported.messages, 0);
  }
  static v1::FetchCheckpointRequest ToFetch(const std::string& name) {
    v1::FetchCheckpointRequest request;
    request.set_name(name);
    return request;
  }
};

TEST_F(TransferErrorsTest, PushRefusesBadHeaders) {
  const Content content = Tensors({2000});
  ASSERT_OK(Push(Header(), content));
  for (const char* parent :
       {"", "r", "projects/default/runs/../x", "projects/default/runs/a b", "projects/default/runs/r/"}) {
    v1::PushHeader header;
    header.set_parent(parent);
    ExpectPushFails(header, content, Reason::NAME_INVALID);
  }
  v1::PushHeader header = Header("new");
  header.set_no_create(true);
  ExpectPushFails(header, content, Reason::RUN_NOT_FOUND);
  header = Header();
  header.mutable_checkpoint()->set_epoch(4);
  ExpectPushFails(header, content, Reason::ATTRIBUTE_CONFLICT);
  header = Header();
  header.mutable_checkpoint()->set_parent_version(99);
  ExpectPushFails(header, content, Reason::CHECKPOINT_NOT_FOUND, "parent");
  header.set_parent("projects/default/runs/new");
  ExpectPushFails(header, content, Reason::CHECKPOINT_NOT_FOUND, "parent");
  header.mutable_checkpoint()->set_parent_version(-1);
  ExpectPushFails(header, content, Reason::ARGUMENT_INVALID, "parent_version");
  header = Header();
  header.set_request_id("two words");
  ExpectPushFails(header, content, Reason::ARGUMENT_INVALID);
  header = Header();
  (*header.mutable_checkpoint()->mutable_labels())[std::string(1000, 'k')] = "v";
  ExpectPushFails(header, content, Reason::ARGUMENT_INVALID);
}

TEST_F(TransferErrorsTest, PushRefusesBadManifests) {
  const Content content = Tensors({2000, 5'000'000});
  const std::string manifest = format::EncodeManifest(content.manifest);
  ExpectPushFails(PushMessages(Header(), "", content.bulk), Reason::STREAM_PROTOCOL_VIOLATED, "no manifest came");
  ExpectPushFails(PushMessages(Header(), "", ""), Reason::STREAM_PROTOCOL_VIOLATED, "no manifest came");
  ExpectPushFails(PushMessages(Header(), "garbage", content.bulk), Reason::MANIFEST_INVALID);
  ExpectPushFails(PushMessages(Header(), manifest.substr(0, manifest.size() - 1), content.bulk),
                  Reason::MANIFEST_INVALID);
  ExpectPushFails(PushMessages(Header(), manifest + "x", content.bulk), Reason::MANIFEST_INVALID);

  Content digested = content;
  for (format::Storage& storage : digested.manifest.storages) {
    storage.chunks.resize(static_cast<size_t>(format::ChunkCount(storage.size_bytes)));
  }
  ExpectPushFails(Header(), digested, Reason::MANIFEST_INVALID, "without them");

  // What Validate guards against must not depend on who encodes: a view that reaches past its storage.
  Content overreaching = content;
  overreaching.manifest.tensors[0].shape[0] += 1;
  ExpectPushFails(Header(), overreaching, Reason::MANIFEST_INVALID);
}

TEST_F(TransferErrorsTest, PushRefusesBytesThatDoNotFit) {
  const Content content = Tensors({2000, 5'000'000});
  const std::string manifest = format::EncodeManifest(content.manifest);
  std::vector<v1::PushCheckpointRequest> messages = PushMessages(Header(), manifest, content.bulk);
  messages.pop_back();
  ExpectPushFails(messages, Reason::UPLOAD_INCOMPLETE);
  messages = PushMessages(Header(), manifest, content.bulk + "x");
  ExpectPushFails(messages, Reason::OFFSET_OUT_OF_RANGE);
  messages = PushMessages(Header(), manifest, content.bulk);
  messages[3].set_offset(messages[3].offset() + 1);
  ExpectPushFails(messages, Reason::OFFSET_MISMATCH);
  messages = PushMessages(Header(), manifest, content.bulk);
  messages.erase(messages.end() - 2);
  ExpectPushFails(messages, Reason::OFFSET_MISMATCH);
  messages = PushMessages(Header(), manifest, content.bulk);
  (*messages.back().mutable_data())[5] ^= 1;
  ExpectPushFails(messages, Reason::DIGEST_MISMATCH);
  messages = PushMessages(Header(), manifest, content.bulk, 4'300'000);
  ExpectPushFails(messages, Reason::MESSAGE_TOO_LARGE);
  messages = PushMessages(Header(), manifest, content.bulk);
  messages.push_back(messages[1]);
  ExpectPushFails(messages, Reason::STREAM_PROTOCOL_VIOLATED);
  ExpectPushFails(std::vector<v1::PushCheckpointRequest>{}, Reason::STREAM_PROTOCOL_VIOLATED);
}

TEST_F(TransferErrorsTest, AClientThatGoesAwayLeavesNothing) {
  const Content content = Tensors({30'000'000});
  ASSERT_OK(Push(Header(), Tensors({2000})));
  const std::string before = Snapshot();
  const auto messages = PushMessages(Header(), format::EncodeManifest(content.manifest), content.bulk);
  for (size_t sent : {size_t{1}, size_t{2}, size_t{3}, size_t{9}, messages.size()}) {
    grpc::ClientContext context;
    v1::Checkpoint answer;
    const auto writer = stub_->PushCheckpoint(&context, &answer);
    for (size_t i = 0; i < sent; ++i) ASSERT_TRUE(writer->Write(messages[i]));
    context.TryCancel();  // even when all bytes are there: the client never said that it was done
    EXPECT_THAT(wire::FromGrpcStatus(writer->Finish()), FailsWith(Reason::CALL_CANCELLED));
  }
  StopServer();
  EXPECT_EQ(Snapshot(), before);
}

TEST_F(TransferErrorsTest, ABrokenStreamIsNotTakenForItsEnd) {
  // An opaque file has no end of its own: only the client's half-close says that it is whole.
  ASSERT_OK(Push(Header(), Tensors({2000})));
  const std::string before = Snapshot();
  v1::ImportCheckpointRequest::Header header;
  *header.mutable_push() = Header();
  header.set_opaque(true);
  const auto messages = FileMessages<v1::ImportCheckpointRequest>(header, RandomBytes(100'000, 1));
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    v1::Checkpoint answer;
    const auto writer = stub_->ImportCheckpoint(&context, &answer);
    for (const auto& message : messages) ASSERT_TRUE(writer->Write(message));
    context.TryCancel();
    EXPECT_THAT(wire::FromGrpcStatus(writer->Finish()), FailsWith(Reason::CALL_CANCELLED));
  }
  StopServer();
  EXPECT_EQ(Snapshot(), before);
}

TEST_F(TransferErrorsTest, ImportRefusesWhatItCannotRead) {
  const std::string good = DataFile("general_sgd.tar"), evil = DataFile("evil_system.pt");
  v1::ImportCheckpointRequest::Header header;
  *header.mutable_push() = Header();
  ExpectImportFails(header, "", Reason::FILE_TRUNCATED, "empty");
  ExpectImportFails(header, good.substr(0, good.size() / 2), Reason::FILE_TRUNCATED);
  ExpectImportFails(header, RandomBytes(5000, 1), Reason::FILE_MALFORMED);
  ExpectImportFails(header, evil, Reason::PICKLE_GLOBAL_REFUSED, "system");
  header.set_sha256(Sha256(AsBytes("other")).Hex());
  ExpectImportFails(header, good, Reason::DIGEST_MISMATCH, "SHA-256");
  header.set_opaque(true);
  ExpectImportFails(header, good, Reason::DIGEST_MISMATCH);
  header.set_sha256("abc");
  ExpectImportFails(header, good, Reason::ARGUMENT_INVALID, "64 hex digits");
  header.clear_sha256();
  header.mutable_push()->set_parent("nonsense");
  ExpectImportFails(header, good, Reason::NAME_INVALID);
  *header.mutable_push() = Header();
  auto messages = FileMessages<v1::ImportCheckpointRequest>(header, good);
  messages[1].set_offset(7);
  const std::string before = Snapshot();
  EXPECT_THAT(
      (Send<v1::ImportCheckpointRequest, v1::Checkpoint>(&v1::TransferService::Stub::ImportCheckpoint, messages)),
      FailsWith(Reason::OFFSET_MISMATCH));
  EXPECT_EQ(Snapshot(), before);
}

TEST_F(TransferErrorsTest, FetchRefusesWhatIsNotThere) {
  ASSERT_OK(Push(Header(), Tensors({5'000'000, 2000}, 1, "cuda:0")));
  ExpectFetchFails(ToFetch("nonsense"), Reason::NAME_INVALID);
  ExpectFetchFails(ToFetch(Name("latest", "none")), Reason::RUN_NOT_FOUND);
  ExpectFetchFails(ToFetch(Name("2")), Reason::CHECKPOINT_NOT_FOUND);
  ExpectFetchFails(ToFetch(Name("stable")), Reason::ALIAS_NOT_FOUND);
  ExpectFetchFails(ToFetch(Name("0")), Reason::SELECTOR_INVALID);
  ExpectFetchFails(ToFetch(Name("best")), Reason::BEST_UNDEFINED);
  v1::FetchCheckpointRequest request = ToFetch(Name());
  request.mutable_selection()->set_root("/none");
  ExpectFetchFails(request, Reason::PATH_NOT_FOUND);
  request.mutable_selection()->set_root("model");
  ExpectFetchFails(request, Reason::PATH_INVALID);
  request.mutable_selection()->clear_root();
  request.mutable_selection()->add_include("/model/[");
  ExpectFetchFails(request, Reason::PATTERN_INVALID);
  request.clear_selection();
  request.mutable_device_mapping()->set_device("gpu:zero");
  ExpectFetchFails(request, Reason::DEVICE_INVALID);
  request.mutable_device_mapping()->clear_device();
  request.mutable_device_mapping()->add_available("cpu");
  ExpectFetchFails(request, Reason::DEVICE_UNAVAILABLE);
  request.clear_device_mapping();
  request.mutable_cast()->set_dtype("float15");
  ExpectFetchFails(request, Reason::CAST_INVALID);
  request.clear_cast();
  request.set_limit(-1);
  ExpectFetchFails(request, Reason::ARGUMENT_INVALID, "limit");
  request.clear_limit();
  for (const int64_t offset : {int64_t{-1}, int64_t{5'002'001}}) {
    request.set_offset(offset);
    ExpectFetchFails(request, Reason::OFFSET_OUT_OF_RANGE);
  }
}

TEST_F(TransferErrorsTest, ARuleThatSplitsAStorageIsRefusedNamingBothPaths) {
  format::ManifestBuilder b;
  const auto storage = b.Storage(4000);
  const auto first = b.Tensor(storage, format::DType::kUInt8, {100});
  const auto second = b.Tensor(storage, format::DType::kUInt8, {200});
  const auto first_key = b.Str("a"), second_key = b.Str("b");
  b.Dict({{first_key, first}, {second_key, second}});
  ASSERT_OK(Push(Header(), Fill(b.Build(), 1)));
  v1::FetchCheckpointRequest request = ToFetch(Name());
  for (const auto& [pattern, device] : {std::pair("/a", "cpu"), std::pair("/b", "cuda:0")}) {
    v1::DeviceRule* rule = request.mutable_device_mapping()->add_rules();
    rule->set_pattern(pattern);
    rule->set_device(device);
  }
  ExpectFetchFails(request, Reason::DEVICE_RULE_SPLITS_STORAGE, "/b");
}

TEST_F(TransferErrorsTest, APlanHoldsForExactlyOneAnswer) {
  ASSERT_OK(Push(Header(), Tensors({5'000'000}, 1)));
  v1::FetchCheckpointRequest request = ToFetch(Name());
  const std::string plan = Fetch(request).header.plan();
  request.set_plan(plan);
  EXPECT_OK(Fetch(request).status);
  request.mutable_selection()->set_root("/model");
  ExpectFetchFails(request, Reason::PLAN_CHANGED);
  request.clear_selection();
  request.mutable_device_mapping()->set_device("cuda:0");
  ExpectFetchFails(request, Reason::PLAN_CHANGED);
  request.clear_device_mapping();
  ASSERT_OK(Push(Header(), Tensors({5'000'000}, 2)));
  ExpectFetchFails(request, Reason::PLAN_CHANGED, "version number");  // `latest` has moved on
  request.set_name(Name("1"));
  EXPECT_OK(Fetch(request).status);
  v1::ExportCheckpointRequest export_request;
  export_request.set_name(Name("1"));
  export_request.set_plan(plan);
  ExpectExportFails(export_request, Reason::PLAN_CHANGED);
}

TEST_F(TransferErrorsTest, AnOpaqueVersionIsOnlyExportedWhole) {
  ASSERT_OK(Import(RandomBytes(5000, 1), /*opaque=*/true));
  ExpectFetchFails(ToFetch(Name()), Reason::CHECKPOINT_OPAQUE, "ExportCheckpoint");
  v1::ExportCheckpointRequest request;
  request.set_name(Name());
  request.mutable_device_mapping()->set_device("cpu");
  ExpectExportFails(request, Reason::CHECKPOINT_OPAQUE);
  request.clear_device_mapping();
  request.set_format(v1::ExportCheckpointRequest::SAFETENSORS);  // ignored for an opaque version
  EXPECT_OK(Export(request).status);
  request.set_offset(5001);
  ExpectExportFails(request, Reason::OFFSET_OUT_OF_RANGE);
}

TEST_F(TransferErrorsTest, ExportRefusesWhatIsNotThere) {
  ASSERT_OK(Push(Header(), Tensors({5000})));
  v1::ExportCheckpointRequest request;
  request.set_name(Name("2"));
  ExpectExportFails(request, Reason::CHECKPOINT_NOT_FOUND);
  request.set_name(Name());
  request.set_format(static_cast<v1::ExportCheckpointRequest::Format>(77));
  ExpectExportFails(request, Reason::ARGUMENT_INVALID);
  request.clear_format();
  request.mutable_cast()->set_dtype("int8");
  ExpectExportFails(request, Reason::CAST_INVALID);
  request.clear_cast();
  for (const int64_t offset : {int64_t{-1}, int64_t{1'000'000}}) {
    request.set_offset(offset);
    ExpectExportFails(request, Reason::OFFSET_OUT_OF_RANGE);
  }
}

TEST_F(TransferErrorsTest, NoByteOfARottenChunkIsDelivered) {
  const Content content = Tensors({2000, 3 * (4 << 20)});
  ASSERT_OK(Push(Header(), content));
  Corrupt("1", 1, 1);
  const auto fetched = Fetch(Name("1"));
  EXPECT_THAT(fetched.status, FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_EQ(fetched.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_LE(fetched.data.size(), size_t{2000 + (4 << 20)});
  EXPECT_TRUE(fetched.data == content.bulk.substr(0, fetched.data.size()));
  // From now on nobody is served any of it.
  const auto again = Fetch(Name("1"));
  EXPECT_THAT(again.status, FailsWith(Reason::CHECKPOINT_QUARANTINED));
  EXPECT_EQ(again.messages, 0);
}

TEST_F(TransferErrorsTest, AnExportOfARottenChunkStopsToo) {
  ASSERT_OK(Push(Header(), Tensors({2000, 3 * (4 << 20)})));
  Corrupt("1", 1, 2);
  const auto exported = Export(Name("1"));
  EXPECT_THAT(exported.status, FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_LT(exported.data.size(), size_t{3 * (4 << 20)});
}

TEST_F(TransferErrorsTest, ModulesAreRefusedWhenTheyAreNone) {
  const std::string archive = DataFile("bnnet_scripted_train_mode.pt");
  v1::PushModuleRequest::Header header;
  header.set_name(ModuleName("net"));
  header.set_no_create(true);
  ExpectModuleFails(header, archive, Reason::RUN_NOT_FOUND);
  header.set_no_create(false);
  ExpectModuleFails(header, DataFile("state_dict.pt"), Reason::MODULE_INVALID);
  ExpectModuleFails(header, archive.substr(0, archive.size() / 2), Reason::FILE_TRUNCATED);
  ExpectModuleFails(header, "", Reason::FILE_TRUNCATED);
  header.set_sha256(Sha256(AsBytes("x")).Hex());
  ExpectModuleFails(header, archive, Reason::DIGEST_MISMATCH);
  header.clear_sha256();
  header.set_name("projects/default/runs/r/modules/../x");
  ExpectModuleFails(header, archive, Reason::NAME_INVALID);
  header.set_name(ModuleName("net"));
  ASSERT_OK(PushModule(header, archive));
  EXPECT_THAT(FetchModule(ModuleName("other")).status, FailsWith(Reason::MODULE_NOT_FOUND));
  EXPECT_THAT(FetchModule("projects/default/runs/none/modules/m").status, FailsWith(Reason::RUN_NOT_FOUND));
  EXPECT_THAT(FetchModule(ModuleName("net"), static_cast<int64_t>(archive.size()) + 1).status,
              FailsWith(Reason::OFFSET_OUT_OF_RANGE));
}

}  // namespace
}  // namespace sconce
