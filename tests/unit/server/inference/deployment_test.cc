#include "server/inference/deployment.h"

#include "server/worker_protocol/byte_codec.h"
#include "tests/unit/server/inference/model_manager_fixture.h"

namespace sconce::inference {
namespace {

using ::testing::HasSubstr;

DeploymentRecord FullRecord() {
  DeploymentRecord record{Following("best"), "id", absl::FromUnixMicros(1234567890), true};
  DeploymentSpec& spec = record.spec;
  spec.weights->rules = {{"module.", "_orig_mod."}, "net.", {{"a.*", "b.*"}, {"c", "d"}}};
  spec.weights->match = {true, 0.25};
  spec.cast = {"bfloat16", {{"/head", ""}}};
  spec.batching = {8, absl::Microseconds(1500), 64, 1 << 20};
  spec.instances = 2;
  spec.inputs = {{"x", format::DType::kFloat32, {-1, 3}}};
  spec.outputs = {{"OUTPUT__0", format::DType::kBFloat16, {-1}}};
  spec.warm_up = {3, {{"x", format::DType::kFloat32, {1, 1}, std::string("\0\0\x80?", 4)}}};
  spec.transition = Transition::kResourcePreserving;
  spec.keep_previous = true;
  spec.pinned_version = 7;
  spec.canary = Canary{"latest", 0.125};
  spec.shadow = "9";
  return record;
}

TEST(DeploymentRecordTest, ComesBackAsItWas) {
  DeploymentRecord record = FullRecord();
  ASSERT_OK_AND_ASSIGN(const DeploymentRecord back, DecodeDeployment(EncodeDeployment(record)));
  EXPECT_TRUE(back.spec == record.spec);
  EXPECT_EQ(EncodeDeployment(back), EncodeDeployment(record));
  EXPECT_EQ(back.request_id, "id");
  EXPECT_EQ(back.create_time, record.create_time);
  EXPECT_TRUE(back.unloaded);
  EXPECT_EQ(back.spec.weights->match.min_match, 0.25);
  EXPECT_EQ(back.spec.cast.rules[0].pattern, "/head");
  EXPECT_EQ(back.spec.batching.max_queue_delay, absl::Microseconds(1500));
  EXPECT_EQ(back.spec.outputs[0].dtype, format::DType::kBFloat16);
  EXPECT_EQ(back.spec.warm_up.tensors[0].bytes.size(), 4u);
  EXPECT_EQ(back.spec.canary->weight, 0.125);
  record.spec.weights.reset();
  ASSERT_OK_AND_ASSIGN(const DeploymentRecord own, DecodeDeployment(EncodeDeployment(record)));
  EXPECT_FALSE(own.spec.weights.has_value());
}

// What this release writes later ones must read: the bytes do not change under the same number.
TEST(DeploymentRecordTest, TheThirdFormatIsFixed) {
  EXPECT_EQ(ToHex(AsBytes(EncodeDeployment(FullRecord()))),
            "0301000000700100000072010000006d01010000007001000000720400000062657374060000002f6d6f64656c0200000007"
            "0000006d6f64756c652e0a0000005f6f7269675f6d6f642e040000006e65742e0200000003000000612e2a03000000622e2a"
            "0100000063010000006401000000000000d03f03000000637075020000006964d2029649000000000800000062666c6f6174"
            "313601000000050000002f6865616400000000080000000000000060e3160000000000400000000000000000001000000000"
            "000200000001000000010000007807000000666c6f6174333202000000ffffffffffffffff03000000000000000100000009"
            "0000004f55545055545f5f300800000062666c6f6174313601000000ffffffffffffffff0300000001000000010000007807"
            "000000666c6f617433320200000001000000000000000100000000000000040000000000803f010107000000000000000106"
            "0000006c6174657374000000000000c03f010000003901");
}

TEST(DeploymentRecordTest, ThoseOfTheSecondFormatHaveNothingButWeights) {
  // Written by the release before batching.
  const std::string hex =
      "0201000000700100000072010000006d01010000007001000000720400000062657374060000002f6d6f64656c0200000007"
      "0000006d6f64756c652e0a0000005f6f7269675f6d6f642e040000006e65742e0200000003000000612e2a03000000622e2a"
      "0100000063010000006401000000000000d03f03000000637075020000006964d202964900000000";
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  ASSERT_OK_AND_ASSIGN(const DeploymentRecord record, DecodeDeployment(bytes));
  DeploymentSpec expected = Following("best");
  expected.weights->rules = {{"module.", "_orig_mod."}, "net.", {{"a.*", "b.*"}, {"c", "d"}}};
  expected.weights->match = {true, 0.25};
  EXPECT_TRUE(record.spec == expected);
  EXPECT_EQ(record.request_id, "id");
  EXPECT_EQ(record.create_time, absl::FromUnixMicros(1234567890));
  EXPECT_FALSE(record.unloaded);
}

TEST(DeploymentSpecTest, RolesReloadNothingAndAllElseDoes) {
  const DeploymentSpec base = FullRecord().spec;
  DeploymentSpec roles = base;
  roles.weights->selector = "7";
  roles.pinned_version = 0;
  roles.canary.reset();
  roles.shadow.clear();
  roles.keep_previous = false;
  roles.transition = Transition::kAvailabilityPreserving;
  EXPECT_TRUE(LoadsAlike(base, roles));
  EXPECT_FALSE(base == roles);
  DeploymentSpec device = base, batching = base, path = base, cast = base;
  device.device = "cuda";
  batching.batching.max_batch_size = 9;
  path.weights->path = "/other";
  cast.cast.dtype = "float16";
  for (const DeploymentSpec& other : {device, batching, path, cast}) EXPECT_FALSE(LoadsAlike(base, other));
}

TEST(DeploymentRecordTest, ThoseOfTheFirstReleaseHaveNoRules) {
  worker::ByteWriter writer;
  writer.U8(1);
  for (const char* text : {"p", "r", "m"}) writer.Text(text);
  writer.U8(1);
  for (const char* text : {"p", "r", "best", "/model", "cpu", "id"}) writer.Text(text);
  writer.I64(1234567890);
  ASSERT_OK_AND_ASSIGN(const DeploymentRecord record, DecodeDeployment(writer.Take()));
  EXPECT_TRUE(record.spec == Following("best"));
  EXPECT_EQ(record.request_id, "id");
}

TEST(DeploymentRecordTest, DamageAndAnotherFormatAreSeen) {
  const std::string bytes = EncodeDeployment(FullRecord());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeDeployment(bytes.substr(0, size)), FailsWith(Reason::CATALOG_CORRUPT)) << size;
  }
  EXPECT_THAT(DecodeDeployment(bytes + "x"), FailsWith(Reason::CATALOG_CORRUPT));
  std::string newer = bytes;
  newer[0] = 4;
  EXPECT_THAT(DecodeDeployment(newer), FailsWith(Reason::CATALOG_CORRUPT, HasSubstr("format 4")));
}

}  // namespace
}  // namespace sconce::inference
