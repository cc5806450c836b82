// What goes into TransferService comes out again: whole, in part, mapped, continued, and as files.
#include "storage/format/device_map.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/selection.h"
#include "storage/format/state_dict.h"
#include "tests/integration/transfer_fixture.h"
#include "tests/support/random_manifest.h"

namespace sconce {
namespace {

TEST_F(TransferTest, RandomCheckpointsComeBackAsTheyWere) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    const Content content = Fill(format::RandomManifest(seed).Make(), seed);
    ASSERT_OK_AND_ASSIGN(const v1::Checkpoint pushed, Push(Header(), content, 1 + seed * 300'000));
    EXPECT_EQ(pushed.version(), seed);
    const auto fetched = Fetch(pushed.name());
    ASSERT_OK(fetched.status);
    EXPECT_EQ(fetched.header.checkpoint().SerializeAsString(), pushed.SerializeAsString());
    EXPECT_EQ(fetched.header.manifest_bytes(), static_cast<int64_t>(fetched.manifest.size()));
    EXPECT_EQ(fetched.header.bulk_bytes(), static_cast<int64_t>(content.bulk.size()));
    EXPECT_EQ(Sha256(AsBytes(ToAbsl(fetched.manifest))).Hex(), pushed.manifest_sha256());
    ASSERT_OK_AND_ASSIGN(const format::Manifest manifest, format::DecodeManifest(AsBytes(ToAbsl(fetched.manifest))));
    EXPECT_TRUE(format::EncodeManifest(WithoutDigests(manifest)) == format::EncodeManifest(content.manifest)) << seed;
    EXPECT_TRUE(fetched.data == content.bulk) << seed;
  }
}

TEST_F(TransferTest, AHundredThousandSmallTensorsTravelInFullMessages) {
  const Content content = Tensors(std::vector<int64_t>(100'000, 1028));
  ASSERT_OK(Push(Header(), content));
  const auto fetched = Fetch(Name());
  ASSERT_OK(fetched.status);
  EXPECT_TRUE(fetched.data == content.bulk);
  EXPECT_LT(fetched.messages, 120);  // 98 MiB of data and some of manifest
}

TEST_F(TransferTest, EmptyAndInlineCheckpointsHaveNoBulk) {
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{}, {0, 1, 1024}}) {
    const Content content = Tensors(sizes);
    ASSERT_OK(Push(Header(), content));
    const auto fetched = Fetch(Name());
    ASSERT_OK(fetched.status);
    EXPECT_EQ(fetched.header.bulk_bytes(), 0);
    EXPECT_EQ(fetched.data, "");
    EXPECT_EQ(fetched.manifest, format::EncodeManifest(content.manifest));
  }
}

TEST_F(TransferTest, TheHeaderSaysWhatTheVersionIs) {
  v1::PushHeader header = Header();
  header.mutable_checkpoint()->set_step(7);
  header.mutable_checkpoint()->set_pinned(true);
  (*header.mutable_checkpoint()->mutable_metrics())["loss"] = 0.5;
  (*header.mutable_checkpoint()->mutable_labels())["who"] = "me";
  ASSERT_OK(Push(Header(), Tensors({2000})));
  header.mutable_checkpoint()->set_parent_version(1);
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint pushed, Push(header, Tensors({2000})));
  EXPECT_EQ(pushed.name(), Name("2"));
  EXPECT_EQ(pushed.epoch(), 3);  // from the tree
  EXPECT_EQ(pushed.step(), 7);
  EXPECT_TRUE(pushed.pinned());
  EXPECT_EQ(pushed.metrics().at("loss"), 0.5);
  EXPECT_EQ(pushed.labels().at("who"), "me");
  EXPECT_EQ(pushed.parent_version(), 1);
  EXPECT_EQ(pushed.kind(), v1::Checkpoint::STATE);
  EXPECT_EQ(Fetch(Name("best")).header.checkpoint().version(), 2);
}

TEST_F(TransferTest, ARetryWithTheSameRequestIdAnswersTheSameVersion) {
  v1::PushHeader header = Header();
  header.set_request_id("7b6a2f0e-5a0e-4b53-9d8c-2f7f3a1c0b11");
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint first, Push(header, Tensors({5000})));
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint second, Push(header, Tensors({5000})));
  EXPECT_EQ(second.version(), first.version());
  EXPECT_THAT(Push(header, Tensors({5001})), FailsWith(Reason::REQUEST_ID_REUSED));
}

TEST_F(TransferTest, APartComesOutMappedWithItsOwnBulkStream) {
  const Content content = Tensors({5'000'000, 3000, 9'000'000, 100, 2000}, 1, "cuda:0");
  ASSERT_OK(Push(Header(), content));
  v1::FetchCheckpointRequest request;
  request.set_name(Name());
  request.mutable_selection()->set_root("/model");
  request.mutable_selection()->add_exclude("/t2");
  request.mutable_device_mapping()->set_device("cpu");
  const auto fetched = Fetch(request);
  ASSERT_OK(fetched.status);

  ASSERT_OK_AND_ASSIGN(format::Selected expected, format::Select(content.manifest, {"/model", {}, {"/t2"}}));
  ASSERT_OK(format::MapDevices({"cpu", {}, {}, {}, ""}, expected.manifest));
  ASSERT_OK_AND_ASSIGN(const format::Manifest manifest, format::DecodeManifest(AsBytes(ToAbsl(fetched.manifest))));
  EXPECT_TRUE(manifest.derived);
  EXPECT_TRUE(format::EncodeManifest(WithoutDigests(manifest)) == format::EncodeManifest(expected.manifest));
  EXPECT_TRUE(fetched.data == content.bulk.substr(0, 5'003'000) + content.bulk.substr(14'003'000));
  ASSERT_EQ(fetched.header.mapped_devices_size(), 1);
  EXPECT_EQ(fetched.header.mapped_devices(0).from(), "cuda:0");
  EXPECT_EQ(fetched.header.mapped_devices(0).to(), "cpu");
  EXPECT_EQ(fetched.header.mapped_devices(0).storage_count(), 4);

  // What was fetched in part is an ordinary checkpoint when it is pushed.
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint again, Push(Header("other"), {WithoutDigests(manifest), fetched.data}));
  const auto whole = Fetch(again.name());
  ASSERT_OK_AND_ASSIGN(const format::Manifest stored, format::DecodeManifest(AsBytes(ToAbsl(whole.manifest))));
  EXPECT_FALSE(stored.derived);
}

TEST_F(TransferTest, AWarmStartBringsWhatMatchesUnderTheTargetsNames) {
  const Content content = Tensors({5'000'000, 3000, 9'000'000, 100, 2000}, 1, "cuda:0");
  ASSERT_OK(Push(Header(), content));
  v1::FetchCheckpointRequest request;
  request.set_name(Name());
  request.mutable_selection()->set_root("/model");
  request.mutable_device_mapping()->add_rules()->set_pattern("/net.t0");
  request.mutable_device_mapping()->mutable_rules(0)->set_device("cpu");
  v1::LoadPlan& plan = *request.mutable_load_plan();
  plan.mutable_rules()->set_add_prefix("net.");
  ASSERT_OK_AND_ASSIGN(const format::Selected model, format::Select(content.manifest, {"/model", {}, {}}));
  ASSERT_OK_AND_ASSIGN(const format::StateDict keys, format::ReadStateDict(model.manifest, ""));
  for (const size_t number : {size_t{3}, size_t{0}}) {
    v1::TargetKey& key = *plan.add_target_keys();
    key.set_key("net." + keys.keys[number].key);
    *key.mutable_shape() = {keys.keys[number].shape.begin(), keys.keys[number].shape.end()};
  }
  plan.add_target_keys()->set_key("net.new");
  const auto fetched = Fetch(request);
  ASSERT_OK(fetched.status);
  ASSERT_OK_AND_ASSIGN(const format::Manifest manifest, format::DecodeManifest(AsBytes(ToAbsl(fetched.manifest))));
  ASSERT_OK_AND_ASSIGN(const format::StateDict brought, format::ReadStateDict(manifest, ""));
  ASSERT_EQ(brought.keys.size(), 2u);
  EXPECT_EQ(brought.keys[0].key, "net.t3");
  EXPECT_EQ(brought.keys[1].key, "net.t0");
  EXPECT_TRUE(manifest.derived);
  EXPECT_TRUE(fetched.data == content.bulk.substr(0, 5'000'000));
  ASSERT_EQ(fetched.header.mapped_devices_size(), 1);
  EXPECT_EQ(fetched.header.mapped_devices(0).first_path(), "/net.t0") << "devices are mapped by the new names";

  // The token stands for the load plan too.
  request.set_plan(fetched.header.plan());
  request.set_offset(1'000'000);
  const auto rest = Fetch(request);
  ASSERT_OK(rest.status);
  EXPECT_TRUE(rest.data == content.bulk.substr(1'000'000, 4'000'000));
  request.mutable_load_plan()->mutable_target_keys()->RemoveLast();
  EXPECT_THAT(Fetch(request).status, FailsWith(Reason::PLAN_CHANGED));
  request.clear_plan();
  request.clear_offset();
  request.mutable_load_plan()->set_strict(true);
  EXPECT_THAT(Fetch(request).status, FailsWith(Reason::MODEL_WEIGHTS_MISMATCH));
  request.mutable_load_plan()->set_strict(false);
  request.mutable_load_plan()->mutable_rules()->set_add_prefix("other.");
  request.mutable_load_plan()->set_min_match(0.1);
  EXPECT_THAT(Fetch(request).status, FailsWith(Reason::MATCH_RATE_TOO_LOW));
  request.mutable_selection()->set_root("");
  EXPECT_THAT(Fetch(request).status, FailsWith(Reason::STATE_DICT_INVALID));
}

TEST_F(TransferTest, RulesWithoutATargetRenameEveryKey) {
  const Content content = Tensors({5000, 3000});
  ASSERT_OK(Push(Header(), content));
  v1::FetchCheckpointRequest request;
  request.set_name(Name());
  request.mutable_selection()->set_root("/model");
  v1::RenameRule& rename = *request.mutable_load_plan()->mutable_rules()->add_renames();
  rename.set_from("t*");
  rename.set_to("layer.*.weight");
  const auto fetched = Fetch(request);
  ASSERT_OK(fetched.status);
  ASSERT_OK_AND_ASSIGN(const format::Manifest manifest, format::DecodeManifest(AsBytes(ToAbsl(fetched.manifest))));
  ASSERT_OK_AND_ASSIGN(const format::StateDict brought, format::ReadStateDict(manifest, ""));
  ASSERT_EQ(brought.keys.size(), 2u);
  EXPECT_EQ(brought.keys[0].key, "layer.0.weight");
  EXPECT_EQ(brought.keys[1].key, "layer.1.weight");
  EXPECT_TRUE(fetched.data == content.bulk);
}

TEST_F(TransferTest, AnyRangeOfAFetchCanBeAskedForAgain) {
  const Content content = Tensors({5'000'000, 3000, 100, 1'000'000, 4 << 20, 8 << 20, 2000});
  ASSERT_OK(Push(Header(), content));
  v1::FetchCheckpointRequest request;
  request.set_name(Name());
  const auto whole = Fetch(request);
  ASSERT_OK(whole.status);
  EXPECT_TRUE(whole.data == content.bulk);
  request.set_plan(whole.header.plan());
  request.set_skip_manifest(true);
  const auto size = static_cast<int64_t>(content.bulk.size());
  std::mt19937 random(1);
  for (int i = 0; i < 30; ++i) {
    request.set_offset(i == 0 ? size : static_cast<int64_t>(random()) % size);
    request.set_limit(i % 3 == 0 ? 0 : static_cast<int64_t>(random()) % 6'000'000);
    const auto part = Fetch(request);
    ASSERT_OK(part.status);
    EXPECT_EQ(part.header.plan(), whole.header.plan());
    EXPECT_EQ(part.header.bulk_bytes(), size);
    EXPECT_EQ(part.manifest, "");
    const auto length = request.limit() == 0 ? std::string::npos : static_cast<size_t>(request.limit());
    EXPECT_TRUE(part.data == content.bulk.substr(static_cast<size_t>(request.offset()), length)) << request.offset();
    if (!part.data.empty()) {
      EXPECT_EQ(part.first_offset, request.offset());
    }
  }
}

TEST_F(TransferTest, AnExportIsATorchFileAndTheSameOneEachTime) {
  const Content content = Tensors({5'000'000, 3000, 100, 9'000'000}, 1, "cuda:1");
  ASSERT_OK(Push(Header(), content));
  v1::ExportCheckpointRequest request;
  request.set_name(Name());
  (*request.mutable_device_mapping()->mutable_remap())["cuda:1"] = "cpu";
  const auto whole = Export(request);
  ASSERT_OK(whole.status);
  EXPECT_EQ(whole.header.file_bytes(), static_cast<int64_t>(whole.data.size()));
  EXPECT_EQ(whole.header.mapped_devices_size(), 1);
  EXPECT_EQ(whole.header.checkpoint().name(), Name("1"));

  ASSERT_OK_AND_ASSIGN(const format::TorchFile file, format::ReadCheckpointFile(AsBytes(ToAbsl(whole.data))));
  format::Manifest expected = content.manifest;
  for (format::Storage& storage : expected.storages) storage.device = "cpu";
  EXPECT_TRUE(format::EncodeManifest(file.manifest) == format::EncodeManifest(expected));
  std::string bulk;
  for (size_t i = 0; i < file.bytes.size(); ++i) {
    if (format::IsBulk(file.manifest.storages[i])) bulk += std::string(ToStd(AsText(file.bytes[i])));
  }
  EXPECT_TRUE(bulk == content.bulk);

  EXPECT_TRUE(Export(request).data == whole.data);
  request.set_plan(whole.header.plan());
  for (const int64_t offset :
       {int64_t{1}, int64_t{4'000'000}, whole.header.file_bytes() - 1, whole.header.file_bytes()}) {
    request.set_offset(offset);
    const auto rest = Export(request);
    ASSERT_OK(rest.status);
    EXPECT_TRUE(rest.data == whole.data.substr(static_cast<size_t>(offset))) << offset;
  }
}

TEST_F(TransferTest, RealFilesGoInAndComeOutEqual) {
  for (const char* name :
       {"general_sgd.tar", "state_dict.pt", "adamw_full.pth", "views_and_ties.pt", "containers.pt", "cuda_mixed.pt"}) {
    const std::string original = DataFile(name);
    v1::ImportCheckpointRequest::Header header;
    *header.mutable_push() = Header("files");
    header.set_sha256(Sha256(AsBytes(ToAbsl(original))).Hex());
    ASSERT_OK_AND_ASSIGN(const v1::Checkpoint imported, Import(header, original));
    const auto exported = Export(imported.name());
    ASSERT_OK(exported.status);
    ASSERT_OK_AND_ASSIGN(const format::TorchFile before, format::ReadCheckpointFile(AsBytes(ToAbsl(original))));
    ASSERT_OK_AND_ASSIGN(const format::TorchFile after, format::ReadCheckpointFile(AsBytes(ToAbsl(exported.data))));
    EXPECT_TRUE(format::EncodeManifest(after.manifest) == format::EncodeManifest(before.manifest)) << name;
    ASSERT_EQ(after.bytes.size(), before.bytes.size());
    for (size_t i = 0; i < after.bytes.size(); ++i) EXPECT_TRUE(after.bytes[i] == before.bytes[i]) << name << " " << i;
  }
}

TEST_F(TransferTest, AnOpaqueFileComesOutAsItWentIn) {
  for (const int64_t size : {int64_t{1}, int64_t{1024}, int64_t{1025}, int64_t{9'000'000}}) {
    const std::string file = RandomBytes(size, 5);
    ASSERT_OK_AND_ASSIGN(const v1::Checkpoint imported, Import(file, /*opaque=*/true));
    EXPECT_EQ(imported.kind(), v1::Checkpoint::OPAQUE);
    EXPECT_EQ(imported.logical_bytes(), size);
    v1::ExportCheckpointRequest request;
    request.set_name(imported.name());
    const auto whole = Export(request);
    ASSERT_OK(whole.status);
    EXPECT_EQ(whole.header.file_bytes(), size);
    EXPECT_TRUE(whole.data == file);
    request.set_plan(whole.header.plan());
    request.set_offset(size / 2);
    EXPECT_TRUE(Export(request).data == file.substr(static_cast<size_t>(size / 2)));
  }
}

TEST_F(TransferTest, AModuleIsStoredOnceAndComesOutAsItWentIn) {
  const std::string archive = DataFile("bnnet_scripted_train_mode.pt");
  v1::PushModuleRequest::Header header;
  header.set_name(ModuleName("net"));
  header.set_sha256(Sha256(AsBytes(ToAbsl(archive))).Hex());
  (*header.mutable_labels())["who"] = "me";
  ASSERT_OK_AND_ASSIGN(const v1::Module module, PushModule(header, archive));
  EXPECT_EQ(module.name(), ModuleName("net"));
  EXPECT_EQ(module.size_bytes(), static_cast<int64_t>(archive.size()));
  EXPECT_EQ(module.sha256(), header.sha256());
  EXPECT_EQ(module.labels().at("who"), "me");
  EXPECT_OK(PushModule(header, archive));  // once more
  const auto whole = FetchModule(ModuleName("net"));
  ASSERT_OK(whole.status);
  EXPECT_EQ(whole.header.sha256(), header.sha256());
  EXPECT_TRUE(whole.data == archive);
  EXPECT_TRUE(FetchModule(ModuleName("net"), 1000).data == archive.substr(1000));
}

TEST_F(TransferTest, TwoPushesAtOnceGetTwoVersions) {
  const Content a = Tensors({3'000'000}, 1), b = Tensors({3'000'000}, 2);
  absl::StatusOr<v1::Checkpoint> first, second;
  std::thread other([&] { second = Push(Header(), b); });
  first = Push(Header(), a);
  other.join();
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_EQ(first->version() + second->version(), 3);
  EXPECT_TRUE(Fetch(first->name()).data == a.bulk);
  EXPECT_TRUE(Fetch(second->name()).data == b.bulk);
}

TEST_F(TransferTest, AReaderInTheMiddleOutlivesItsVersion) {
  const Content content = Tensors({40'000'000});
  ASSERT_OK(Push(Header(), content));
  grpc::ClientContext context;
  v1::FetchCheckpointRequest request;
  request.set_name(Name());
  const auto reader = stub_->FetchCheckpoint(&context, request);
  v1::FetchCheckpointResponse message;
  ASSERT_TRUE(reader->Read(&message));
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, "", false, false));
  ASSERT_OK(repository_->CollectGarbage());
  std::string data;
  while (reader->Read(&message)) data += message.data();
  EXPECT_OK(wire::FromGrpcStatus(reader->Finish()));
  EXPECT_TRUE(data == content.bulk);
}

}  // namespace
}  // namespace sconce
