#include "server/inference/warm_up.h"

#include <cmath>
#include <limits>

#include "tests/support/manual_model.h"
#include "tests/support/status_matchers.h"

namespace sconce::inference {
namespace {

using format::DType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Answers at once.
class Prompt final : public LoadedModel {
 public:
  explicit Prompt(ManualModel::Forward forward) : forward_(std::move(forward)) {}
  const ModelSignature& signature() const override { return signature_; }
  absl::Status Health() const override { return absl::OkStatus(); }
  void Infer(const std::vector<HostTensor>& inputs, absl::Time, InferDone done) override {
    seen_.push_back(inputs[0].shape);
    done(forward_(inputs));
  }
  std::vector<format::Dims> seen_;

 private:
  const ModelSignature signature_ = ManualSignature();
  const ManualModel::Forward forward_;
};

DeploymentSpec Described() {
  DeploymentSpec spec;
  spec.inputs = {{"INPUT__0", DType::kFloat32, {-1, 3}}};
  return spec;
}

absl::StatusOr<WarmUpReport> Try(const DeploymentSpec& spec, const std::shared_ptr<Prompt>& model) {
  return RunWarmUp(spec, {model});
}

InferResult Always(float value) {
  return std::vector<HostTensor>{FloatTensor({1}, {value}, "OUTPUT__0")};
}

TEST(WarmUpTest, WithoutADescriptionThereIsNone) {
  const auto model = std::make_shared<Prompt>(ManualModel::Twice);
  ASSERT_OK_AND_ASSIGN(const WarmUpReport report, Try(DeploymentSpec{}, model));
  EXPECT_THAT(report.note, HasSubstr("no warm-up: the deployment does not describe input 'x'"));
  EXPECT_THAT(model->seen_, IsEmpty());
}

TEST(WarmUpTest, TensorsAreMadeUpForWhatIsDescribedTheSameEveryTime) {
  std::string why;
  const auto first = WarmUpInputs(Described(), ManualSignature(), 1, why);
  const auto again = WarmUpInputs(Described(), ManualSignature(), 1, why);
  const auto other = WarmUpInputs(Described(), ManualSignature(), 2, why);
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].name, "x");
  EXPECT_THAT(first[0].shape, ElementsAre(1, 3));
  for (const float value : FloatsOf(first[0])) {
    EXPECT_GE(value, 0);
    EXPECT_LT(value, 1);
  }
  EXPECT_EQ(FloatsOf(first[0]), FloatsOf(again[0]));
  EXPECT_NE(FloatsOf(first[0]), FloatsOf(other[0]));
}

TEST(WarmUpTest, GivenTensorsAreUsed) {
  DeploymentSpec spec;
  const float values[] = {4, 5};
  spec.warm_up.tensors = {
      {"x", DType::kFloat32, {2}, std::string(reinterpret_cast<const char*>(values), sizeof(values))}};
  spec.warm_up.runs = 3;
  std::string why;
  EXPECT_THAT(FloatsOf(WarmUpInputs(spec, ManualSignature(), 1, why)[0]), ElementsAre(4, 5));
  const auto model = std::make_shared<Prompt>(ManualModel::Twice);
  ASSERT_OK_AND_ASSIGN(const WarmUpReport report, Try(spec, model));
  EXPECT_EQ(report.note, "");
  EXPECT_THAT(model->seen_, SizeIs(3));
}

TEST(WarmUpTest, NanInfinitiesAndWhatThrowsAreRefused) {
  for (const float bad :
       {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(Try(Described(), std::make_shared<Prompt>([bad](const auto&) { return Always(bad); })),
                FailsWith(Reason::MODEL_WARM_UP_FAILED, HasSubstr("output 'OUTPUT__0' has NaN or an infinity")));
  }
  EXPECT_THAT(Try(Described(), std::make_shared<Prompt>([](const auto&) -> InferResult {
                    return MakeError(Reason::MODEL_FAILED, "it throws");
                  })),
              FailsWith(Reason::MODEL_WARM_UP_FAILED, HasSubstr("it throws")));
  // A death is no verdict about the version.
  EXPECT_THAT(Try(Described(), std::make_shared<Prompt>([](const auto&) -> InferResult {
                    return MakeError(Reason::WORKER_DIED, "killed");
                  })),
              FailsWith(Reason::WORKER_DIED));
}

TEST(WarmUpTest, NanIsSeenInEveryFloat) {
  const auto check = [](DType dtype, std::vector<uint8_t> bytes) {
    HostTensor tensor{"o", dtype, {static_cast<int64_t>(bytes.size()) / format::ElementBytes(dtype)}, {}, nullptr};
    tensor.bytes = ByteSpan(bytes.data(), bytes.size());
    return CheckFinite({tensor});
  };
  EXPECT_OK(check(DType::kFloat16, {0x00, 0x3C, 0xFF, 0x7B}));
  EXPECT_THAT(check(DType::kFloat16, {0x00, 0x3C, 0x01, 0x7C}), FailsWith(Reason::MODEL_WARM_UP_FAILED));
  EXPECT_OK(check(DType::kBFloat16, {0x80, 0x3F}));
  EXPECT_THAT(check(DType::kBFloat16, {0x80, 0xFF}), FailsWith(Reason::MODEL_WARM_UP_FAILED));
  EXPECT_THAT(check(DType::kFloat64, {0, 0, 0, 0, 0, 0, 0xF8, 0x7F}), FailsWith(Reason::MODEL_WARM_UP_FAILED));
  EXPECT_OK(check(DType::kInt32, {0xFF, 0xFF, 0xFF, 0x7F}));
}

TEST(WarmUpTest, OutputsMustBeAsDescribed) {
  DeploymentSpec spec = Described();
  spec.outputs = {{"OUTPUT__0", DType::kFloat32, {-1, 3}}};
  EXPECT_OK(Try(spec, std::make_shared<Prompt>(ManualModel::Twice)));
  spec.outputs[0].shape = {-1, 4};
  EXPECT_THAT(Try(spec, std::make_shared<Prompt>(ManualModel::Twice)), FailsWith(Reason::MODEL_WARM_UP_FAILED));
}

TEST(WarmUpTest, AModelWhoseRowsDependOnEachOtherIsFoundOut) {
  DeploymentSpec spec = Described();
  spec.batching.max_batch_size = 8;
  ASSERT_OK_AND_ASSIGN(const WarmUpReport good, Try(spec, std::make_shared<Prompt>(ManualModel::Twice)));
  EXPECT_EQ(good.unbatched_reason, "");
  const auto minus_mean = [](const std::vector<HostTensor>& inputs) -> InferResult {
    std::vector<float> values = FloatsOf(inputs[0]);
    float sum = 0;
    for (const float value : values) sum += value;
    for (float& value : values) value -= sum / static_cast<float>(values.size());
    return std::vector<HostTensor>{FloatTensor(inputs[0].shape, values, "OUTPUT__0")};
  };
  ASSERT_OK_AND_ASSIGN(const WarmUpReport bad, Try(spec, std::make_shared<Prompt>(minus_mean)));
  EXPECT_THAT(bad.unbatched_reason, HasSubstr("depends on the other rows of its batch"));
  ASSERT_OK_AND_ASSIGN(const WarmUpReport scalar,
                       Try(spec, std::make_shared<Prompt>([](const auto&) {
                             return InferResult(std::vector<HostTensor>{FloatTensor({}, {1}, "OUTPUT__0")});
                           })));
  EXPECT_THAT(scalar.unbatched_reason, HasSubstr("cannot be divided"));
  spec.batching.max_batch_size = 0;
  ASSERT_OK_AND_ASSIGN(const WarmUpReport unasked, Try(spec, std::make_shared<Prompt>(minus_mean)));
  EXPECT_EQ(unasked.unbatched_reason, "");
}

}  // namespace
}  // namespace sconce::inference
