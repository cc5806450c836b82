#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "tests/unit/server/services/service_fixture.h"

namespace sconce::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class PlanCallsTest : public CheckpointServiceTest {
 protected:
  // {"model": {"module.a": [2], "module.b": [3, 2], "module.odd": [1]}}
  void PushModel() {
    format::ManifestBuilder b;
    const auto a = b.Tensor(format::DType::kFloat16, {2});
    const auto wide = b.Tensor(format::DType::kFloat32, {3, 2});
    const auto odd = b.Tensor(format::DType::kFloat32, {1});
    const auto model = b.Dict({{b.Str("module.a"), a}, {b.Str("module.b"), wide}, {b.Str("module.odd"), odd}});
    b.Dict({{b.Str("model"), model}});
    Push("r", b.Build());
  }

  static v1::PlanLoadRequest Request() {
    v1::PlanLoadRequest request;
    request.set_name("projects/default/runs/r/checkpoints/latest");
    request.mutable_selection()->set_root("/model");
    request.mutable_plan()->mutable_rules()->add_strip_prefixes("module.");
    AddKey(request, "a", {2}, "float32");
    AddKey(request, "b", {2, 3}, "float32");
    AddKey(request, "c", {5}, "float32");
    return request;
  }
  static void AddKey(v1::PlanLoadRequest& request, const std::string& name, const std::vector<int64_t>& shape,
                     const std::string& dtype) {
    v1::TargetKey& key = *request.mutable_plan()->add_target_keys();
    key.set_key(name);
    *key.mutable_shape() = {shape.begin(), shape.end()};
    key.set_dtype(dtype);
  }

  // Sends the requests, and joins what comes back.
  absl::StatusOr<v1::PlanLoadResponse> Stream(const std::vector<v1::PlanLoadRequest>& requests, int* pieces = nullptr) {
    grpc::ClientContext context;
    const auto stream = stub_->PlanLargeLoad(&context);
    for (const v1::PlanLoadRequest& request : requests) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    v1::PlanLoadResponse all;
    v1::PlanLoadResponse piece;
    while (stream->Read(&piece)) {
      EXPECT_LT(piece.ByteSizeLong(), size_t{2} << 20);
      all.MergeFrom(piece);
      if (pieces != nullptr) ++*pieces;
    }
    SCONCE_RETURN_IF_ERROR(wire::FromGrpcStatus(stream->Finish()));
    return all;
  }

  void PushModule(const std::string& name) {
    const char* const source = std::getenv("SCONCE_SOURCE_DIR");
    std::ifstream file(std::string(source != nullptr ? source : ".") + "/tests/data/torchscript/" + name + ".pt",
                       std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    ASSERT_FALSE(content.str().empty());
    ASSERT_OK_AND_ASSIGN(
        const auto push,
        repository_->BeginModulePush({"default", "r"}, name, static_cast<int64_t>(content.str().size()), {}, true));
    ASSERT_OK(push->Write(AsBytes(ToAbsl(content.str()))));
    ASSERT_OK(push->Commit());
  }
};

TEST_F(PlanCallsTest, SaysWhatWouldBeLoaded) {
  PushModel();
  ASSERT_OK_AND_ASSIGN(const v1::PlanLoadResponse answer, Call(&Stub::PlanLoad, Request()));
  ASSERT_EQ(answer.matched_size(), 1);
  EXPECT_EQ(answer.matched(0).key(), "a");
  EXPECT_EQ(answer.matched(0).source_key(), "module.a");
  EXPECT_EQ(answer.matched(0).source_dtype(), "float16");
  EXPECT_EQ(answer.matched(0).target_dtype(), "float32");
  EXPECT_THAT(answer.missing_keys(), ElementsAre("c"));
  EXPECT_THAT(answer.unexpected_keys(), ElementsAre("odd"));
  ASSERT_EQ(answer.mismatched_size(), 1);
  EXPECT_EQ(answer.mismatched(0).message(),
            "size mismatch for b: copying a param with shape torch.Size([3, 2]) from checkpoint, the shape in current "
            "model is torch.Size([2, 3]).");
  EXPECT_THAT(answer.mismatched(0).source_shape(), ElementsAre(3, 2));
  const v1::PlanLoadResponse::Summary& summary = answer.summary();
  EXPECT_EQ(summary.checkpoint().version(), 1);
  EXPECT_EQ(summary.target_key_count(), 3);
  EXPECT_EQ(summary.source_key_count(), 3);
  EXPECT_EQ(summary.matched_count(), 1);
  EXPECT_EQ(summary.missing_count(), 1);
  EXPECT_EQ(summary.unexpected_count(), 1);
  EXPECT_EQ(summary.mismatched_count(), 1);
  EXPECT_EQ(summary.converted_count(), 1);
  EXPECT_DOUBLE_EQ(summary.match_rate(), 1.0 / 3);
  EXPECT_EQ(summary.transfer_bytes(), 4);
  EXPECT_THAT(summary.error(), StartsWith("Error(s) in loading state_dict for Module:\n\tMissing key(s) in state_dict: "
                                          "\"c\". \n\tUnexpected key(s) in state_dict: \"odd\". \n\tsize mismatch"));
}

TEST_F(PlanCallsTest, AModuleIsATargetToo) {
  format::ManifestBuilder b;
  format::ManifestBuilder::Items items;
  const auto weight = b.Tensor(format::DType::kFloat32, {3, 2});
  const auto bias = b.Tensor(format::DType::kFloat32, {3});
  b.Dict({{b.Str("fc.weight"), weight}, {b.Str("fc.bias"), bias}});
  Push("r", b.Build());
  PushModule("linear");
  v1::PlanLoadRequest request;
  request.set_name("projects/default/runs/r/checkpoints/1");
  request.mutable_plan()->set_module("projects/default/runs/r/modules/linear");
  ASSERT_OK_AND_ASSIGN(const v1::PlanLoadResponse answer, Call(&Stub::PlanLoad, request));
  EXPECT_EQ(answer.matched_size(), 2);
  EXPECT_THAT(answer.missing_keys(),
              ElementsAre("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"));
  EXPECT_THAT(answer.summary().error(), StartsWith("Error(s) in loading state_dict for RecursiveScriptModule:"));
  request.mutable_plan()->set_module("projects/default/runs/r/modules/none");
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::MODULE_NOT_FOUND));
}

TEST_F(PlanCallsTest, TooLittleIsAnErrorWithAHint) {
  PushModel();
  v1::PlanLoadRequest request = Request();
  request.mutable_plan()->set_min_match(0.5);
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::MATCH_RATE_TOO_LOW, HasSubstr("1 of 3 keys match")));
  request.mutable_plan()->clear_rules();
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::MATCH_RATE_TOO_LOW, HasSubstr("nothing matched")));
  request.mutable_plan()->set_min_match(0);
  ASSERT_OK_AND_ASSIGN(const v1::PlanLoadResponse answer, Call(&Stub::PlanLoad, request));
  EXPECT_THAT(answer.summary().hint(), HasSubstr("\"module.\" taken off"));
}

TEST_F(PlanCallsTest, StrictIsTorchsError) {
  PushModel();
  v1::PlanLoadRequest request = Request();
  request.mutable_plan()->set_strict(true);
  request.set_target_class("Net");
  EXPECT_THAT(Call(&Stub::PlanLoad, request),
              FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, StartsWith("Error(s) in loading state_dict for Net:")));
}

TEST_F(PlanCallsTest, WhatCannotBePlannedIsSaid) {
  PushModel();
  v1::PlanLoadRequest request = Request();
  request.mutable_selection()->set_root("");
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::STATE_DICT_INVALID, HasSubstr("/model")));
  request.mutable_selection()->set_root("/none");
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::PATH_NOT_FOUND));
  request = Request();
  request.mutable_plan()->clear_target_keys();
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("no target")));
  request = Request();
  request.mutable_plan()->set_module("projects/default/runs/r/modules/m");
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::ARGUMENT_INVALID));
  request = Request();
  request.mutable_plan()->set_min_match(1.5);
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("min_match")));
  request = Request();
  request.mutable_plan()->mutable_rules()->add_renames()->set_from("[");
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::PATTERN_INVALID));
  request = Request();
  v1::RenameRule& rename = *request.mutable_plan()->mutable_rules()->add_renames();
  rename.set_from("*");
  rename.set_to("same");
  EXPECT_THAT(Call(&Stub::PlanLoad, request),
              FailsWith(Reason::RENAME_COLLISION, HasSubstr("\"module.a\" and \"module.b\"")));
  request = Request();
  request.set_name("projects/default/runs/r/checkpoints/9");
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
}

TEST_F(PlanCallsTest, AStreamsKeysMayAllComeAfterItsFirstMessage) {
  PushModel();
  std::vector<v1::PlanLoadRequest> requests(2);
  requests[0] = Request();
  requests[1].mutable_plan()->mutable_target_keys()->Swap(requests[0].mutable_plan()->mutable_target_keys());
  requests[0].mutable_plan()->set_min_match(0.3);
  ASSERT_OK_AND_ASSIGN(const v1::PlanLoadResponse answer, Stream(requests));
  EXPECT_EQ(answer.summary().matched_count(), 1);
  requests[0].mutable_plan()->set_min_match(0.5);
  EXPECT_THAT(Stream(requests), FailsWith(Reason::MATCH_RATE_TOO_LOW));
  requests[0].mutable_plan()->set_module("projects/default/runs/r/modules/m");
  EXPECT_THAT(Stream(requests), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("both a module and target_keys")));
}

TEST_F(PlanCallsTest, LargeTargetsAreForTheStream) {
  PushModel();
  v1::PlanLoadRequest request = Request();
  for (int i = 0; i < 10'000; ++i) AddKey(request, "layers." + std::to_string(i), {1}, "");
  EXPECT_THAT(Call(&Stub::PlanLoad, request), FailsWith(Reason::MESSAGE_TOO_LARGE, HasSubstr("PlanLargeLoad")));
}

TEST_F(PlanCallsTest, AHundredThousandTensorsAreStreamed) {
  constexpr int kCount = 100'000;
  format::ManifestBuilder b;
  format::ManifestBuilder::Items items;
  for (int i = 0; i < kCount; ++i) {
    const auto tensor = b.Tensor(format::DType::kFloat32, {1});
    items.emplace_back(b.Str("layers." + std::to_string(i) + ".weight"), tensor);
  }
  b.Dict(items);
  Push("r", b.Build());
  std::vector<v1::PlanLoadRequest> requests(11);
  requests[0].set_name("projects/default/runs/r/checkpoints/1");
  for (int i = 0; i < kCount; ++i) {
    AddKey(requests[1 + static_cast<size_t>(i) % 10], "layers." + std::to_string(i + 1) + ".weight", {1}, "float32");
  }
  int pieces = 0;
  ASSERT_OK_AND_ASSIGN(const v1::PlanLoadResponse answer, Stream(requests, &pieces));
  EXPECT_EQ(answer.matched_size(), kCount - 1);
  EXPECT_THAT(answer.missing_keys(), ElementsAre("layers.100000.weight"));
  EXPECT_THAT(answer.unexpected_keys(), ElementsAre("layers.0.weight"));
  EXPECT_EQ(answer.summary().matched_count(), kCount - 1);
  EXPECT_GT(pieces, 1);
}

TEST_F(PlanCallsTest, TheStreamAnswersAsTheUnaryCallDoes) {
  PushModel();
  ASSERT_OK_AND_ASSIGN(const v1::PlanLoadResponse unary, Call(&Stub::PlanLoad, Request()));
  v1::PlanLoadRequest rest;
  *rest.mutable_plan()->mutable_target_keys() = Request().plan().target_keys();
  v1::PlanLoadRequest first = Request();
  first.mutable_plan()->clear_target_keys();
  ASSERT_OK_AND_ASSIGN(const v1::PlanLoadResponse streamed, Stream({first, rest}));
  EXPECT_EQ(streamed.SerializeAsString(), unary.SerializeAsString());
}

TEST_F(PlanCallsTest, TheStreamsOrderIsHeld) {
  PushModel();
  EXPECT_THAT(Stream({}), FailsWith(Reason::STREAM_PROTOCOL_VIOLATED));
  EXPECT_THAT(Stream({Request(), Request()}), FailsWith(Reason::STREAM_PROTOCOL_VIOLATED));
  v1::PlanLoadRequest first = Request();
  first.mutable_plan()->clear_target_keys();
  EXPECT_THAT(Stream({first}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("no target")));
}

}  // namespace
}  // namespace sconce::services
