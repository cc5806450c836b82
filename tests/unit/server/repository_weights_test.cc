#include "server/repository_weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce {
namespace {

using format::DType;
using format::ManifestBuilder;
using inference::RunId;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const RunId kRun = {"p", "r"};

std::string Pattern(size_t size, int seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>((i * 31 + static_cast<size_t>(seed)) % 251);
  return bytes;
}

std::string ReadAll(const inference::StoredBytes& stored) {
  if (stored.extents.empty()) return stored.inline_bytes;
  std::string all;
  for (const inference::FileExtent& extent : stored.extents) {
    std::string piece(static_cast<size_t>(extent.size_bytes), '\0');
    EXPECT_EQ(::pread(extent.fd, piece.data(), piece.size(), extent.offset), extent.size_bytes);
    all += piece;
  }
  return all;
}

class RepositoryWeightsTest : public ::testing::Test {
 protected:
  RepositoryWeightsTest() {
    repository::RepositoryOptions options;
    options.data_dir = folder_ / "data";
    options.min_free_bytes = 0;
    auto opened = repository::Repository::Open(options);
    SCONCE_CHECK(opened.ok());
    repository_ = *std::move(opened);
    weights_ = std::make_unique<RepositoryWeights>(*repository_);
  }

  int64_t Push(format::Manifest manifest, const std::string& bulk,
               repository::CheckpointKind kind = repository::CheckpointKind::kState) {
    repository::PushOptions options;
    options.run = {"p", "r"};
    options.kind = kind;
    auto push = repository_->BeginPush(options, std::move(manifest));
    SCONCE_CHECK(push.ok());
    SCONCE_CHECK((*push)->Write(AsBytes(bulk)).ok());
    auto committed = (*push)->Commit();
    SCONCE_CHECK(committed.ok());
    return committed->version;
  }

  const TempDir folder_;
  std::unique_ptr<repository::Repository> repository_;
  std::unique_ptr<RepositoryWeights> weights_;
};

TEST_F(RepositoryWeightsTest, AStateDictComesWithItsBytesAndItsSharing) {
  // model: {a: all of the large storage, tied: its second half, small: inline}; an unrelated storage comes first.
  ManifestBuilder b;
  const auto unrelated = b.Tensor(DType::kFloat32, {512});
  const auto large = b.Storage(10 << 20);
  const auto a = b.Parameter(b.Tensor(large, DType::kUInt8, {10 << 20}));
  format::TensorView half;
  half.dtype = DType::kUInt8;
  half.storage = large;
  half.offset = 5 << 20;
  half.shape = {5 << 20};
  half.stride = {1};
  const auto tied = b.View(half);
  const auto small = b.Tensor(b.InlineStorage("8 bytes!"), DType::kUInt8, {8});
  const auto model = b.OrderedDict({{b.Str("a"), a}, {b.Str("tied"), tied}, {b.Str("small"), small}});
  b.Dict({{b.Str("other"), unrelated}, {b.Str("model"), model}});
  const std::string other_bytes = Pattern(2048, 1);
  const std::string large_bytes = Pattern(10 << 20, 2);
  const int64_t version = Push(b.Build(), other_bytes + large_bytes);

  ASSERT_OK_AND_ASSIGN(const inference::StateDict state, weights_->OpenWeights(kRun, version, "/model", {}));
  ASSERT_EQ(state.entries.size(), 3u);
  EXPECT_EQ(state.entries[0].name, "a");
  EXPECT_EQ(state.entries[1].name, "tied");
  EXPECT_EQ(state.entries[2].name, "small");
  ASSERT_EQ(state.storages.size(), 2u) << "the unrelated one is not opened";
  EXPECT_EQ(state.entries[0].view.storage, 0u);
  EXPECT_EQ(state.entries[1].view.storage, 0u);
  EXPECT_EQ(state.entries[1].view.offset, 5 << 20);
  EXPECT_EQ(state.entries[2].view.storage, 1u);
  EXPECT_TRUE(ReadAll(state.storages[0]) == large_bytes);
  EXPECT_EQ(ReadAll(state.storages[1]), "8 bytes!");

  ASSERT_OK(repository_->DeleteCheckpoint({{"p", "r"}, "1"}, "", false, false));
  EXPECT_TRUE(ReadAll(state.storages[0]) == large_bytes) << "deleting does no harm to what was opened";
}

std::string Ones(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes.append("\0\0\x80\x3f", 4);
  return bytes;
}
std::string BrainOnes(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes.append("\x80\x3f", 2);
  return bytes;
}

TEST_F(RepositoryWeightsTest, ACastConvertsFloatsAndLeavesTheRestWhereItIs) {
  constexpr int64_t kMany = 3 << 20;  // 12 MiB before: more than a piece, and than a chunk
  ManifestBuilder b;
  const auto large = b.Storage(kMany * 4);
  const auto w = b.Tensor(large, DType::kFloat32, {kMany});
  format::TensorView half;
  half.storage = large;
  half.offset = kMany / 2;
  half.shape = {kMany / 2};
  half.stride = {1};
  const auto tied = b.View(half);
  const auto kept = b.Tensor(b.Storage(4096), DType::kFloat32, {1024});
  const auto steps = b.Tensor(b.Storage(8192), DType::kInt64, {1024});
  const auto small = b.Tensor(b.InlineStorage(Ones(2)), DType::kFloat32, {2});
  const auto shrunk = b.Tensor(b.Storage(2048), DType::kFloat32, {512});  // inline afterwards
  const auto model = b.OrderedDict({{b.Str("w"), w},
                                    {b.Str("tied"), tied},
                                    {b.Str("head"), kept},
                                    {b.Str("steps"), steps},
                                    {b.Str("small"), small},
                                    {b.Str("shrunk"), shrunk}});
  b.Dict({{b.Str("other"), b.Tensor(DType::kFloat32, {512})}, {b.Str("model"), model}});
  const std::string integers = Pattern(8192, 3);
  const int64_t version = Push(b.Build(), Ones(kMany) + Ones(1024) + integers + Ones(512) + Pattern(2048, 1));

  const format::DtypeCast cast{"bfloat16", {{"/head", ""}}};
  ASSERT_OK_AND_ASSIGN(const inference::StateDict state, weights_->OpenWeights(kRun, version, "/model", cast));
  ASSERT_EQ(state.entries.size(), 6u);
  ASSERT_EQ(state.storages.size(), 5u);
  EXPECT_EQ(state.entries[0].view.dtype, DType::kBFloat16);
  EXPECT_EQ(state.entries[1].view.storage, state.entries[0].view.storage);
  EXPECT_EQ(state.entries[1].view.offset, kMany / 2);
  EXPECT_EQ(state.entries[2].view.dtype, DType::kFloat32);
  const auto bytes = [&](size_t entry) { return ReadAll(state.storages[state.entries[entry].view.storage]); };
  EXPECT_TRUE(bytes(0) == BrainOnes(kMany));
  EXPECT_TRUE(bytes(2) == Ones(1024));
  EXPECT_TRUE(bytes(3) == integers);
  EXPECT_EQ(bytes(4), BrainOnes(2));
  EXPECT_TRUE(bytes(5) == BrainOnes(512));
  const inference::FileExtent& made = state.storages[0].extents.at(0);
  EXPECT_LT(::pwrite(made.fd, "x", 1, made.offset), 0) << "instances share it, so nobody may change it";

  EXPECT_THAT(weights_->OpenWeights(kRun, version, "/model", {"int8", {}}), FailsWith(Reason::CAST_INVALID));
  EXPECT_THAT(weights_->OpenWeights(kRun, version, "/nope", cast), FailsWith(Reason::PATH_NOT_FOUND));
}

TEST_F(RepositoryWeightsTest, WhatIsNoStateDictIsRefusedSayingWhy) {
  ManifestBuilder b;
  const auto tensor = b.Tensor(DType::kFloat32, {1});
  const auto by_int = b.Dict({{b.Int(0), tensor}});
  const auto with_int = b.Dict({{b.Str("n"), b.Int(3)}});
  const auto meta = b.Dict({{b.Str("m"), b.Tensor(DType::kFloat32, {4}, "meta")}});
  const auto list = b.List({tensor});
  b.Dict({{b.Str("by_int"), by_int}, {b.Str("with_int"), with_int}, {b.Str("meta"), meta}, {b.Str("list"), list}});
  const int64_t version = Push(b.Build(), "");
  const auto open = [&](const std::string& path) { return weights_->OpenWeights(kRun, version, path, {}); };
  EXPECT_THAT(open("/by_int"), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("a key of type int")));
  EXPECT_THAT(open("/with_int"), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("\"n\" is a int")));
  EXPECT_THAT(open("/meta"), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("meta tensor")));
  EXPECT_THAT(open("/list"), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("it is a list")));
  EXPECT_THAT(open(""), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH));
  EXPECT_THAT(open("/nothing"), FailsWith(Reason::PATH_NOT_FOUND));
  EXPECT_THAT(weights_->OpenWeights(kRun, 9, "", {}), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
}

TEST(FindStateDictTest, SkipsExtraStateAndRefusesLazyAndEmptyOnes) {
  ManifestBuilder b;
  const auto with_extra = b.Dict({{b.Str("w"), b.Tensor(DType::kFloat32, {1})},
                                  {b.Str("fc._extra_state"), b.Int(3)},
                                  {b.Str("_extra_state"), b.Str("anything")}});
  const auto empty = b.Dict({});
  const auto lazy = b.Dict({{b.Str("c"), b.Tensor(DType::kComplex64, {1})}});
  b.Dict({{b.Str("with_extra"), with_extra}, {b.Str("empty"), empty}, {b.Str("lazy"), lazy}});
  format::Manifest manifest = b.Build();
  for (format::TensorView& view : manifest.tensors) view.conjugate = view.dtype == DType::kComplex64;
  ASSERT_OK_AND_ASSIGN(const StateDictLayout layout, FindStateDict(manifest, "/with_extra"));
  ASSERT_EQ(layout.entries.size(), 1u);
  EXPECT_EQ(layout.entries[0].name, "w");
  EXPECT_THAT(FindStateDict(manifest, "/empty"), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("no tensors")));
  EXPECT_THAT(FindStateDict(manifest, "/lazy"), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("resolve_conj")));
}

TEST_F(RepositoryWeightsTest, ModulesComeAsTheyWerePushed) {
  const std::string archive = Pattern(9 << 20, 3);
  ASSERT_OK_AND_ASSIGN(const auto push,
                       repository_->BeginModulePush({"p", "r"}, "net", static_cast<int64_t>(archive.size()), {}, true));
  ASSERT_OK(push->Write(AsBytes(archive)));
  ASSERT_OK(push->Commit());
  ASSERT_OK_AND_ASSIGN(const inference::StoredBytes module, weights_->OpenModule(kRun, "net"));
  EXPECT_EQ(module.size_bytes, static_cast<int64_t>(archive.size()));
  EXPECT_TRUE(ReadAll(module) == archive);
  EXPECT_THAT(weights_->OpenModule(kRun, "other"), FailsWith(Reason::MODULE_NOT_FOUND));
}

TEST_F(RepositoryWeightsTest, SelectorsAreResolvedAndDeploymentsKept) {
  ManifestBuilder b;
  b.Dict({{b.Str("loss"), b.Float(0.5)}});
  Push(b.Build(), "");
  EXPECT_EQ(weights_->ResolveVersion(kRun, "best").value(), 1);
  EXPECT_THAT(weights_->ResolveVersion(kRun, "stable"), FailsWith(Reason::ALIAS_NOT_FOUND));
  ASSERT_OK(weights_->CreateDeployment("m", "record"));
  EXPECT_THAT(weights_->CreateDeployment("m", "other"), FailsWith(Reason::MODEL_ALREADY_EXISTS));
  EXPECT_THAT(weights_->ListDeployments().value(), ElementsAre(std::pair<std::string, std::string>("m", "record")));
  ASSERT_OK(weights_->DeleteDeployment("m"));
  EXPECT_THAT(weights_->DeleteDeployment("m"), FailsWith(Reason::MODEL_NOT_FOUND));
}

TEST_F(RepositoryWeightsTest, HooksHearOfChangesAndProtectWhatIsServed) {
  Mutex mu;
  CondVar changed;
  std::vector<RunId> runs;
  weights_->SetHooks(
      [&](const RunId& run) {
        MutexLock lock(&mu);
        runs.push_back(run);
        changed.SignalAll();
      },
      [](const RunId&, int64_t version) { return version == 1; });
  ManifestBuilder b;
  b.Dict({{b.Str("loss"), b.Float(0.5)}});
  Push(b.Build(), "");
  {
    MutexLock lock(&mu);
    while (runs.empty()) changed.Wait(&mu);
    EXPECT_TRUE(runs[0] == kRun);
  }
  EXPECT_THAT(repository_->DeleteCheckpoint({{"p", "r"}, "1"}, "", true, false),
              FailsWith(Reason::CHECKPOINT_PROTECTED));
  weights_->SetHooks([](const RunId&) {}, [](const RunId&, int64_t) { return false; });
  EXPECT_OK(repository_->DeleteCheckpoint({{"p", "r"}, "1"}, "", true, true));
  weights_->SetHooks(nullptr, nullptr);  // nobody can tell what is served any more
  EXPECT_THAT(repository_->DeleteCheckpoint({{"p", "r"}, "1"}, "", true, true),
              FailsWith(Reason::CHECKPOINT_PROTECTED));
}

}  // namespace
}  // namespace sconce
