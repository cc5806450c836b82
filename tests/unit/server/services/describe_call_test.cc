#include <string>
#include <vector>

#include "tests/unit/server/services/service_fixture.h"

namespace sconce::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using DescribeCallTest = CheckpointServiceTest;

v1::DescribeCheckpointRequest Describe(const std::string& selector, int32_t page_size = 0) {
  v1::DescribeCheckpointRequest request;
  request.set_name("projects/default/runs/r/checkpoints/" + selector);
  request.set_page_size(page_size);
  return request;
}

// A dict of `count` tensors: {"0": tensor, "1": tensor, ...}.
format::Manifest WideTree(int count, const std::string& key_suffix = "") {
  format::ManifestBuilder b;
  format::ManifestBuilder::Items items;
  for (int i = 0; i < count; ++i) {
    const auto tensor = b.Tensor(format::DType::kFloat32, {1});
    const auto key = b.Str(std::to_string(i) + key_suffix);
    items.emplace_back(key, tensor);
  }
  b.Dict(items);
  return b.Build();
}

TEST_F(DescribeCallTest, EveryTensorAndScalarIsListed) {
  Push("r", SmallTree(0.5));
  ASSERT_OK_AND_ASSIGN(const v1::DescribeCheckpointResponse tree, Call(&Stub::DescribeCheckpoint, Describe("latest")));
  EXPECT_EQ(tree.checkpoint().version(), 1);
  std::vector<std::string> paths;
  for (const v1::TreeEntry& entry : tree.entries()) paths.push_back(entry.path());
  EXPECT_THAT(paths, ElementsAre("", "/loss", "/model", "/model/w", "/model/b"));
  EXPECT_EQ(tree.entries(1).type(), "float");
  EXPECT_EQ(tree.entries(1).value(), "0.5");
  EXPECT_EQ(tree.entries(2).child_count(), 2);
  const v1::TreeEntry& w = tree.entries(3);
  EXPECT_EQ(w.type(), "tensor");
  EXPECT_EQ(w.dtype(), "float32");
  EXPECT_THAT(w.shape(), ElementsAre(2, 2));
  EXPECT_EQ(w.device(), "cuda:0");
  EXPECT_EQ(w.size_bytes(), 16);
  EXPECT_EQ(tree.totals().tensor_count(), 2);
  EXPECT_EQ(tree.totals().element_count(), 6);
  EXPECT_EQ(tree.totals().scalar_count(), 1);
  EXPECT_EQ(tree.totals().storage_bytes(), 24);
  EXPECT_EQ(tree.mapped_devices_size(), 0);
  EXPECT_EQ(tree.next_page_token(), "");
}

TEST_F(DescribeCallTest, SelectionAndMappingApplyAndAreReported) {
  Push("r", SmallTree(0.5));
  v1::DescribeCheckpointRequest request = Describe("1");
  request.mutable_selection()->set_root("/model");
  request.mutable_selection()->add_include("/w");
  request.mutable_device_mapping()->set_device("cpu");
  ASSERT_OK_AND_ASSIGN(const v1::DescribeCheckpointResponse tree, Call(&Stub::DescribeCheckpoint, request));
  ASSERT_EQ(tree.entries_size(), 2);
  EXPECT_EQ(tree.entries(1).path(), "/w");
  EXPECT_EQ(tree.entries(1).device(), "cpu");
  EXPECT_EQ(tree.totals().tensor_count(), 1);
  ASSERT_EQ(tree.mapped_devices_size(), 1);
  EXPECT_EQ(tree.mapped_devices(0).from(), "cuda:0");
  EXPECT_EQ(tree.mapped_devices(0).to(), "cpu");
  EXPECT_EQ(tree.mapped_devices(0).first_path(), "/w");
}

TEST_F(DescribeCallTest, PagesFollowEachOtherWithoutGapsAndTotalsComeOnce) {
  Push("r", WideTree(1200));
  for (const int32_t page_size : {7, 1000}) {
    v1::DescribeCheckpointRequest request = Describe("1", page_size);
    std::vector<std::string> paths;
    int pages = 0;
    do {
      ASSERT_OK_AND_ASSIGN(const v1::DescribeCheckpointResponse page, Call(&Stub::DescribeCheckpoint, request));
      EXPECT_LE(page.entries_size(), page_size);
      EXPECT_EQ(page.has_totals(), pages == 0);
      for (const v1::TreeEntry& entry : page.entries()) paths.push_back(entry.path());
      request.set_page_token(page.next_page_token());
      ++pages;
    } while (!request.page_token().empty());
    ASSERT_EQ(paths.size(), 1201u);
    for (size_t i = 1; i < paths.size(); ++i) EXPECT_EQ(paths[i], "/" + std::to_string(i - 1));
  }
}

TEST_F(DescribeCallTest, LongPathsMakeShorterPagesSoThatEveryClientCanTakeThem) {
  Push("r", WideTree(200, std::string(30000, 'x')));
  v1::DescribeCheckpointRequest request = Describe("1", 1000);
  int entries = 0;
  int pages = 0;
  do {
    ASSERT_OK_AND_ASSIGN(const v1::DescribeCheckpointResponse page, Call(&Stub::DescribeCheckpoint, request));
    EXPECT_LT(page.ByteSizeLong(), size_t{4} << 20);
    EXPECT_GT(page.entries_size(), 0);
    entries += page.entries_size();
    ++pages;
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(entries, 201);
  EXPECT_GT(pages, 3);
}

TEST_F(DescribeCallTest, ASelectorThatMovesBetweenPagesDoesNotMixVersions) {
  Push("r", WideTree(60));
  v1::DescribeCheckpointRequest request = Describe("latest");
  ASSERT_OK_AND_ASSIGN(const v1::DescribeCheckpointResponse first, Call(&Stub::DescribeCheckpoint, request));
  Push("r", SmallTree(0.5));
  request.set_page_token(first.next_page_token());
  ASSERT_OK_AND_ASSIGN(const v1::DescribeCheckpointResponse second, Call(&Stub::DescribeCheckpoint, request));
  EXPECT_EQ(second.checkpoint().version(), 1);
  EXPECT_EQ(second.entries(0).path(), "/49");
}

TEST_F(DescribeCallTest, WhatCannotBeDescribedIsSaid) {
  Push("r", SmallTree(0.5));
  v1::DescribeCheckpointRequest request = Describe("1");
  request.mutable_selection()->set_root("/optimizer");
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, request), FailsWith(Reason::PATH_NOT_FOUND, HasSubstr("/optimizer")));
  request.mutable_selection()->set_root("");
  request.mutable_selection()->add_include("/[");
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, request), FailsWith(Reason::PATTERN_INVALID));
  request.clear_selection();
  request.mutable_device_mapping()->set_device("gpu");
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, request), FailsWith(Reason::DEVICE_INVALID));
  request.mutable_device_mapping()->set_device("cuda:0");
  request.mutable_device_mapping()->add_available("cpu");
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, request), FailsWith(Reason::DEVICE_UNAVAILABLE));
  request = Describe("1", 1);
  ASSERT_OK_AND_ASSIGN(const v1::DescribeCheckpointResponse page, Call(&Stub::DescribeCheckpoint, request));
  request.set_page_token(page.next_page_token());
  request.mutable_selection()->set_root("/model");
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, request), FailsWith(Reason::PAGE_TOKEN_INVALID));
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, Describe("2")), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, Describe("1", -1)), FailsWith(Reason::ARGUMENT_INVALID));
}

TEST_F(DescribeCallTest, AnOpaqueVersionHasNoTree) {
  format::ManifestBuilder b;
  const auto storage = b.InlineStorage("any bytes");
  b.Add({format::NodeKind::kStorage, format::kNoIndex, static_cast<int64_t>(storage), 0, 0, "untyped", {}});
  repository::PushOptions options;
  options.kind = repository::CheckpointKind::kOpaque;
  Push("r", b.Build(), options);
  EXPECT_THAT(Call(&Stub::DescribeCheckpoint, Describe("1")),
              FailsWith(Reason::CHECKPOINT_OPAQUE, HasSubstr("ExportCheckpoint")));
}

TEST_F(DescribeCallTest, CallsOfLaterReleasesSaySo) {
  EXPECT_THAT(Call(&Stub::DiffCheckpoints, v1::DiffCheckpointsRequest()), FailsWith(Reason::NOT_IMPLEMENTED));
}

}  // namespace
}  // namespace sconce::services
