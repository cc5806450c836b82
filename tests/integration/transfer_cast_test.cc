#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "storage/format/float_convert.h"
#include "storage/format/open_checkpoint.h"
#include "tests/integration/transfer_fixture.h"

namespace sconce {
namespace {

using format::DType;
using ::testing::HasSubstr;

// {model: {big: float32, tied: a part of it, small: float32 of 400 bytes, middle: float32 of 1600 bytes, steps: int64
// of 4000}, m: float16 of 600 bytes}
Content Floats(uint64_t seed = 1) {
  format::ManifestBuilder b;
  const format::StorageIndex big = b.Storage(12'000'000);
  format::TensorView tied;
  tied.storage = big;
  tied.offset = 1'000'001;
  tied.shape = {1000, 3};
  tied.stride = {1, 7};
  const format::NodeIndex model_key = b.Str("model"), big_key = b.Str("big");
  const format::NodeIndex big_tensor = b.Parameter(b.Tensor(big, DType::kFloat32, {3'000'000}));
  const format::NodeIndex tied_key = b.Str("tied"), tied_tensor = b.View(tied);
  const format::NodeIndex small_key = b.Str("small");
  const format::NodeIndex small = b.Tensor(b.Storage(400, "cpu", '?'), DType::kFloat32, {100});
  const format::NodeIndex middle_key = b.Str("middle"), middle = b.Tensor(DType::kFloat32, {400});
  const format::NodeIndex steps_key = b.Str("steps"), steps = b.Tensor(DType::kInt64, {500});
  const format::NodeIndex model = b.Dict(
      {{big_key, big_tensor}, {tied_key, tied_tensor}, {small_key, small}, {middle_key, middle}, {steps_key, steps}});
  const format::NodeIndex m_key = b.Str("m"), m = b.Tensor(b.Storage(600, "cpu", '='), DType::kFloat16, {300});
  b.Dict({{model_key, model}, {m_key, m}});
  return Fill(b.Build(), seed);
}

std::string Converted(const std::string& bytes, DType from, DType to) {
  const size_t count = bytes.size() / static_cast<size_t>(ElementBytes(from));
  std::string result(count * static_cast<size_t>(ElementBytes(to)), '\0');
  format::ConvertFloats(from, to, reinterpret_cast<const uint8_t*>(bytes.data()), count,
                        reinterpret_cast<uint8_t*>(result.data()));
  return result;
}

struct TransferCastTest : TransferTest {
  v1::FetchCheckpointRequest Request(const std::string& dtype) {
    v1::FetchCheckpointRequest request;
    request.set_name(Name());
    request.mutable_cast()->set_dtype(dtype);
    return request;
  }
};

TEST_F(TransferCastTest, AFetchDeliversTheConvertedBytesAndAManifestThatFitsThem) {
  const Content content = Floats();
  ASSERT_OK(Push(Header(), content));
  const std::string big = content.bulk.substr(0, 12'000'000), middle = content.bulk.substr(12'000'000, 1600),
                    steps = content.bulk.substr(12'001'600);

  const auto half = Fetch(Request("float16"));
  ASSERT_OK(half.status);
  ASSERT_OK_AND_ASSIGN(format::Manifest manifest, format::DecodeManifest(AsBytes(ToAbsl(half.manifest))));
  EXPECT_TRUE(manifest.derived);
  EXPECT_EQ(half.header.bulk_bytes(), 6'004'000);
  EXPECT_EQ(format::BulkBytes(manifest), 6'004'000);
  EXPECT_TRUE(half.data == Converted(big, DType::kFloat32, DType::kFloat16) + steps);  // middle is inline now
  EXPECT_EQ(manifest.storages[1].inline_bytes, Converted(std::string(400, '?'), DType::kFloat32, DType::kFloat16));
  EXPECT_EQ(manifest.storages[2].inline_bytes, Converted(middle, DType::kFloat32, DType::kFloat16));
  EXPECT_EQ(manifest.storages[4].inline_bytes, std::string(600, '='));
  ASSERT_EQ(half.header.cast_dtypes_size(), 1);
  EXPECT_EQ(half.header.cast_dtypes(0).from(), "float32");
  EXPECT_EQ(half.header.cast_dtypes(0).to(), "float16");
  EXPECT_EQ(half.header.cast_dtypes(0).storage_count(), 3);
  EXPECT_EQ(half.header.cast_dtypes(0).size_bytes(), 12'002'000);
  EXPECT_EQ(half.header.cast_dtypes(0).cast_size_bytes(), 6'001'000);
  EXPECT_EQ(half.header.cast_dtypes(0).first_path(), "/model/big");

  const auto wide = Fetch(Request("float64"));
  ASSERT_OK(wide.status);
  EXPECT_TRUE(wide.data == Converted(big, DType::kFloat32, DType::kFloat64) +
                               Converted(middle, DType::kFloat32, DType::kFloat64) + steps +
                               Converted(std::string(600, '='), DType::kFloat16, DType::kFloat64));

  // What was fetched is an ordinary checkpoint when it is pushed.
  ASSERT_OK(Push(Header("other"), {manifest, half.data}));
  EXPECT_TRUE(Fetch(Name("latest", "other")).data == half.data);
}

TEST_F(TransferCastTest, AnyRangeOfACastFetchCanBeAskedForAgain) {
  ASSERT_OK(Push(Header(), Floats()));
  for (const char* dtype : {"float64", "bfloat16", "float8_e4m3fn"}) {
    v1::FetchCheckpointRequest request = Request(dtype);
    const auto whole = Fetch(request);
    ASSERT_OK(whole.status);
    const auto size = static_cast<int64_t>(whole.data.size());
    request.set_name(whole.header.checkpoint().name());
    request.set_plan(whole.header.plan());
    request.set_skip_manifest(true);
    std::mt19937 random(1);
    for (int i = 0; i < 10; ++i) {
      request.set_offset(i == 0 ? size : static_cast<int64_t>(random()) % size);
      request.set_limit(i % 3 == 0 ? 0 : static_cast<int64_t>(random()) % 3'000'000);
      const auto part = Fetch(request);
      ASSERT_OK(part.status);
      const auto length = request.limit() == 0 ? std::string::npos : static_cast<size_t>(request.limit());
      EXPECT_TRUE(part.data == whole.data.substr(static_cast<size_t>(request.offset()), length)) << request.offset();
    }
    request.mutable_cast()->set_dtype("float32");  // other bytes, so another plan
    EXPECT_THAT(Fetch(request).status, FailsWith(Reason::PLAN_CHANGED));
  }
}

TEST_F(TransferCastTest, AnExportIsATorchFileOfTheConvertedTensors) {
  const Content content = Floats();
  ASSERT_OK(Push(Header(), content));
  v1::ExportCheckpointRequest request;
  request.set_name(Name());
  request.mutable_cast()->set_dtype("float64");
  v1::DtypeRule& rule = *request.mutable_cast()->add_rules();
  rule.set_pattern("/model/middle");
  rule.set_dtype("bfloat16");
  const auto whole = Export(request);
  ASSERT_OK(whole.status);
  EXPECT_EQ(whole.header.file_bytes(), static_cast<int64_t>(whole.data.size()));
  EXPECT_EQ(whole.header.cast_dtypes_size(), 3);
  ASSERT_OK_AND_ASSIGN(const format::TorchFile file, format::ReadCheckpointFile(AsBytes(ToAbsl(whole.data))));
  ASSERT_EQ(file.bytes.size(), 5u);
  EXPECT_TRUE(AsText(file.bytes[0]) ==
              ToAbsl(Converted(content.bulk.substr(0, 12'000'000), DType::kFloat32, DType::kFloat64)));
  EXPECT_TRUE(AsText(file.bytes[2]) ==
              ToAbsl(Converted(content.bulk.substr(12'000'000, 1600), DType::kFloat32, DType::kBFloat16)));
  EXPECT_TRUE(AsText(file.bytes[3]) == ToAbsl(content.bulk).substr(12'001'600));
  EXPECT_TRUE(Export(request).data == whole.data);
  request.set_plan(whole.header.plan());
  request.set_offset(20'000'003);
  EXPECT_TRUE(Export(request).data == whole.data.substr(20'000'003));

  // Other bytes of the same shapes are another file to PyTorch.
  ASSERT_OK(Push(Header("r2"), Floats(2)));
  request.Clear();
  request.set_name(Name("latest", "r2"));
  request.mutable_cast()->set_dtype("float64");
  const std::string second = Export(request).data;
  request.set_name(Name());
  const std::string first = Export(request).data;
  EXPECT_EQ(first.size(), second.size());
  EXPECT_NE(first.substr(first.rfind(".data/serialization_id", first.rfind("PK\3\4") + 400), 200),
            second.substr(second.rfind(".data/serialization_id", second.rfind("PK\3\4") + 400), 200));
}

TEST_F(TransferCastTest, CastsThatCannotBeAreRefusedWithWhatCan) {
  ASSERT_OK(Push(Header(), Floats()));
  EXPECT_THAT(Fetch(Request("float15")).status,
              FailsWith(Reason::CAST_INVALID, HasSubstr("float16, bfloat16, float32, float64, float8_e4m3fn")));
  EXPECT_THAT(Fetch(Request("int8")).status, FailsWith(Reason::CAST_INVALID));
  v1::FetchCheckpointRequest request = Request("float16");
  request.mutable_cast()->add_patterns("/model/big");
  EXPECT_THAT(Fetch(request).status, FailsWith(Reason::CAST_RULE_SPLITS_STORAGE, HasSubstr("/model/tied")));
  request.mutable_cast()->add_patterns("/model/t*");
  EXPECT_OK(Fetch(request).status);
  request.mutable_cast()->clear_dtype();
  EXPECT_THAT(Fetch(request).status, FailsWith(Reason::CAST_INVALID, HasSubstr("cast.patterns")));
  v1::ExportCheckpointRequest exported;
  exported.set_name(Name());
  exported.mutable_cast()->add_rules()->set_dtype("float17");
  EXPECT_THAT(Export(exported).status, FailsWith(Reason::CAST_INVALID));

  ASSERT_OK(Import(RandomBytes(5000, 1), /*opaque=*/true));
  exported.mutable_cast()->Clear();
  exported.mutable_cast()->set_dtype("float16");
  EXPECT_THAT(Export(exported).status, FailsWith(Reason::CHECKPOINT_OPAQUE));
}

TEST_F(TransferCastTest, NoByteOfARottenChunkIsConverted) {
  ASSERT_OK(Push(Header(), Floats()));
  Corrupt("latest", 0, 1);
  const auto fetched = Fetch(Request("float16"));
  EXPECT_THAT(fetched.status, FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_LE(fetched.data.size(), size_t{2} << 20);
}

}  // namespace
}  // namespace sconce
