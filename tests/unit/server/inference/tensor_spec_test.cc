#include "server/inference/tensor_spec.h"

#include "tests/support/manual_model.h"
#include "tests/support/status_matchers.h"

namespace sconce::inference {
namespace {

using format::DType;
using ::testing::HasSubstr;

TEST(TensorSpecTest, InputsThatDoNotFitAreToldInTritonsWords) {
  const ModelSignature signature = ManualSignature();
  const std::vector<TensorSpec> specs = {{"INPUT__0", DType::kFloat32, {-1, 3}}};
  EXPECT_OK(CheckInputs("m", specs, signature, {FloatTensor({7, 3}, std::vector<float>(21))}));
  EXPECT_THAT(CheckInputs("m", specs, signature, {FloatTensor({1, 4}, {1, 2, 3, 4})}),
              FailsWith(Reason::MODEL_INPUT_INVALID,
                        HasSubstr("unexpected shape for input 'INPUT__0' for model 'm'. Expected [-1,3], got [1,4].")));
  EXPECT_THAT(CheckInputs("m", specs, signature, {FloatTensor({3}, {1, 2, 3})}),
              FailsWith(Reason::MODEL_INPUT_INVALID));
  HostTensor ints = FloatTensor({1, 3}, {1, 2, 3});
  ints.dtype = DType::kInt32;
  EXPECT_THAT(CheckInputs("m", specs, signature, {ints}),
              FailsWith(Reason::MODEL_INPUT_INVALID,
                        HasSubstr("inference input 'INPUT__0' data-type is 'INT32', but model 'm' expects 'FP32'")));
  EXPECT_OK(CheckInputs("m", {{"k", DType::kInt64, {1}}}, signature, {FloatTensor({3}, {1, 2, 3})}));  // a default
}

TEST(TensorSpecTest, OutputsAreChecked) {
  const std::vector<TensorSpec> specs = {{"a", DType::kFloat32, {-1, 2}}};
  EXPECT_OK(CheckOutputs(specs, {FloatTensor({1, 2}, {1, 2}, "a")}));
  EXPECT_THAT(CheckOutputs(specs, {FloatTensor({1, 2}, {1, 2}, "b")}),
              FailsWith(Reason::MODEL_WARM_UP_FAILED, HasSubstr("no output 'a'")));
  EXPECT_THAT(CheckOutputs(specs, {FloatTensor({2}, {1, 2}, "a")}),
              FailsWith(Reason::MODEL_WARM_UP_FAILED, HasSubstr("FP32 [2]; the deployment describes FP32 [-1,2]")));
}

TEST(TensorSpecTest, SpecsAreOfArguments) {
  EXPECT_OK(CheckInputSpecs({{"x", DType::kFloat32, {}}, {"INPUT__1", DType::kInt64, {}}}, ManualSignature()));
  EXPECT_THAT(CheckInputSpecs({{"z", DType::kFloat32, {}}}, ManualSignature()),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("input 'z'; forward() takes 'x', 'k'")));
  EXPECT_THAT(CheckInputSpecs({{"x", DType::kFloat32, {}}, {"INPUT__0", DType::kFloat32, {}}}, ManualSignature()),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("twice")));
}

}  // namespace
}  // namespace sconce::inference
