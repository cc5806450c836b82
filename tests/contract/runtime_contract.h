#ifndef SCONCE_TESTS_CONTRACT_RUNTIME_CONTRACT_H_
#define SCONCE_TESTS_CONTRACT_RUNTIME_CONTRACT_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/inference/runtime.h"
#include "tests/support/status_matchers.h"

// What every ModelRuntime promises. A test program names its runtime with a harness and instantiates the suite:
//
//   struct MyHarness {
//     ModelRuntime& runtime();
//     std::string Module(const std::string& what);   // the bytes of a module:
//         // "scale": forward(x) = x * w, where w is a buffer of one FP32 element that is 1 in the archive
//         // "throws": as scale, but forward raises an error that says "it throws"
//         // "frozen": train mode is baked in
//   };
//   INSTANTIATE_TYPED_TEST_SUITE_P(My, RuntimeContract, MyHarness);
namespace sconce::inference {

inline StateDict OneWeight(const std::string& name, float value) {
  StateDict weights;
  StateEntry entry;
  entry.name = name;
  entry.view.storage = 0;
  entry.view.shape = {1};
  entry.view.stride = {1};
  weights.entries.push_back(std::move(entry));
  weights.storages.push_back({sizeof(value), {}, std::string(reinterpret_cast<const char*>(&value), sizeof(value))});
  return weights;
}

inline HostTensor FloatInput(std::vector<float> values) {
  auto kept = std::make_shared<std::vector<float>>(std::move(values));
  HostTensor input;
  input.name = "x";
  input.shape = {static_cast<int64_t>(kept->size())};
  input.bytes = ByteSpan(reinterpret_cast<const uint8_t*>(kept->data()), kept->size() * sizeof(float));
  input.owner = std::move(kept);
  return input;
}

inline std::vector<float> Floats(const HostTensor& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

// Asks and waits for the answer.
inline InferResult Ask(LoadedModel& model, const std::vector<HostTensor>& inputs,
                       absl::Time deadline = absl::InfiniteFuture()) {
  std::promise<InferResult> promise;
  std::future<InferResult> future = promise.get_future();
  model.Infer(inputs, deadline, [&promise](InferResult result) { promise.set_value(std::move(result)); });
  return future.get();
}

// The same with this thread lent for the answer, which it may give.
inline InferResult AskLending(LoadedModel& model, const std::vector<HostTensor>& inputs) {
  std::promise<InferResult> promise;
  std::future<InferResult> future = promise.get_future();
  model.Infer(inputs, absl::InfiniteFuture(), [&promise](InferResult result) { promise.set_value(std::move(result)); });
  model.LendThread(absl::Seconds(1));
  return future.get();
}

template <typename Harness>
class RuntimeContract : public ::testing::Test {
 protected:
  ModelSpec Spec(const std::string& what) {
    ModelSpec spec;
    spec.name = "net";
    spec.device = "cpu";
    spec.module.inline_bytes = harness_.Module(what);
    spec.module.size_bytes = static_cast<int64_t>(spec.module.inline_bytes.size());
    return spec;
  }
  absl::StatusOr<std::shared_ptr<LoadedModel>> Load(const std::string& what, float w) {
    ModelSpec spec = Spec(what);
    spec.weights = OneWeight("w", w);
    return harness_.runtime().Load(spec);
  }

  Harness harness_;
};

TYPED_TEST_SUITE_P(RuntimeContract);

TYPED_TEST_P(RuntimeContract, AnswersWithTheWeightsItWasGiven) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("scale", 3));
  EXPECT_OK(model->Health());
  ASSERT_OK_AND_ASSIGN(const auto outputs, Ask(*model, {FloatInput({1, -2, 0.5})}));
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].name, "OUTPUT__0");
  EXPECT_EQ(outputs[0].dtype, format::DType::kFloat32);
  EXPECT_THAT(outputs[0].shape, ::testing::ElementsAre(3));
  EXPECT_THAT(Floats(outputs[0]), ::testing::ElementsAre(3, -6, 1.5));
}

TYPED_TEST_P(RuntimeContract, KeepsTheModulesOwnWeightsWhenItGetsNone) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->harness_.runtime().Load(this->Spec("scale")));
  ASSERT_OK_AND_ASSIGN(const auto outputs, Ask(*model, {FloatInput({5})}));
  EXPECT_THAT(Floats(outputs[0]), ::testing::ElementsAre(5));
}

TYPED_TEST_P(RuntimeContract, SaysWhatForwardTakesAndGives) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("scale", 3));
  ASSERT_EQ(model->signature().inputs.size(), 1u);
  EXPECT_EQ(model->signature().inputs[0].name, "x");
  EXPECT_EQ(model->signature().inputs[0].type, "Tensor");
  EXPECT_TRUE(model->signature().inputs[0].required);
  EXPECT_THAT(model->signature().outputs, ::testing::ElementsAre("OUTPUT__0"));
}

TYPED_TEST_P(RuntimeContract, LargeAndEmptyInputsCross) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("scale", 2));
  std::vector<float> values(1 << 20);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  ASSERT_OK_AND_ASSIGN(const auto outputs, Ask(*model, {FloatInput(values)}));
  const std::vector<float> doubled = Floats(outputs[0]);
  ASSERT_EQ(doubled.size(), values.size());
  EXPECT_EQ(doubled[12345], 24690);
  EXPECT_EQ(doubled.back(), 2 * values.back());
  ASSERT_OK_AND_ASSIGN(const auto nothing, Ask(*model, {FloatInput({})}));
  EXPECT_THAT(nothing[0].shape, ::testing::ElementsAre(0));
}

TYPED_TEST_P(RuntimeContract, ManyAskersGetTheirOwnAnswers) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("scale", 2));
  std::atomic<int> right{0};
  std::vector<std::thread> askers;
  for (int asker = 0; asker < 4; ++asker) {
    askers.emplace_back([&, asker] {
      for (int i = 0; i < 50; ++i) {
        const auto x = static_cast<float>(asker * 1000 + i);
        const InferResult result = Ask(*model, {FloatInput({x})});
        if (result.ok() && Floats((*result)[0]) == std::vector<float>{2 * x}) ++right;
      }
    });
  }
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(right, 200);
}

TYPED_TEST_P(RuntimeContract, ThreadsMayBeLentToIt) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("scale", 2));
  model->LendThread(absl::Seconds(1));  // nothing runs
  std::vector<std::thread> askers;
  for (int asker = 0; asker < 3; ++asker) {
    askers.emplace_back([&model, asker] {
      for (int i = 0; i < 50; ++i) {
        const auto value = static_cast<float>(100 * asker + i);
        const auto outputs =
            i % 3 == 0 ? Ask(*model, {FloatInput({value})}) : AskLending(*model, {FloatInput({value})});
        ASSERT_OK(outputs);
        EXPECT_THAT(Floats((*outputs)[0]), ::testing::ElementsAre(2 * value));
      }
    });
  }
  for (std::thread& asker : askers) asker.join();
}

TYPED_TEST_P(RuntimeContract, RefusesWeightsThatDoNotFitInTorchsWords) {
  ModelSpec spec = this->Spec("scale");
  spec.weights = OneWeight("other", 3);
  EXPECT_THAT(this->harness_.runtime().Load(spec),
              FailsWith(Reason::MODEL_WEIGHTS_MISMATCH,
                        ::testing::HasSubstr("Error(s) in loading state_dict for RecursiveScriptModule:")));
  EXPECT_THAT(this->harness_.runtime().Load(spec),
              FailsWith(Reason::MODEL_WEIGHTS_MISMATCH,
                        ::testing::HasSubstr("\n\tUnexpected key(s) in state_dict: \"other\". ")));
}

TYPED_TEST_P(RuntimeContract, RefusesWhatIsNoModule) {
  ModelSpec spec = this->Spec("scale");
  spec.module.inline_bytes = "not an archive";
  spec.module.size_bytes = static_cast<int64_t>(spec.module.inline_bytes.size());
  EXPECT_THAT(this->harness_.runtime().Load(spec), FailsWith(Reason::MODULE_INVALID));
}

TYPED_TEST_P(RuntimeContract, RefusesTrainModeThatIsBakedIn) {
  EXPECT_THAT(this->harness_.runtime().Load(this->Spec("frozen")), FailsWith(Reason::TRAINING_MODE_FROZEN));
}

TYPED_TEST_P(RuntimeContract, RefusesADeviceThatIsNotThere) {
  ModelSpec spec = this->Spec("scale");
  spec.device = "cuda:77";
  EXPECT_THAT(this->harness_.runtime().Load(spec), FailsWith(Reason::DEVICE_UNAVAILABLE));
}

TYPED_TEST_P(RuntimeContract, AModelThatThrowsGoesOn) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("throws", 3));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Ask(*model, {FloatInput({1})}), FailsWith(Reason::MODEL_FAILED, ::testing::HasSubstr("it throws")));
  }
  EXPECT_OK(model->Health());
}

TYPED_TEST_P(RuntimeContract, ARequestThatIsLateIsNotRun) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("scale", 3));
  EXPECT_THAT(Ask(*model, {FloatInput({1})}, absl::InfinitePast()), FailsWith(Reason::CALL_DEADLINE_EXCEEDED));
  EXPECT_OK(Ask(*model, {FloatInput({1})}));
}

TYPED_TEST_P(RuntimeContract, AfterCancelLoadsNothingLoadsAndWhatIsLoadedGoesOn) {
  ASSERT_OK_AND_ASSIGN(const auto model, this->Load("scale", 3));
  this->harness_.runtime().CancelLoads();
  EXPECT_THAT(this->Load("scale", 3), FailsWith(Reason::SERVER_DRAINING));
  EXPECT_OK(Ask(*model, {FloatInput({1})}));
}

REGISTER_TYPED_TEST_SUITE_P(RuntimeContract, AnswersWithTheWeightsItWasGiven, KeepsTheModulesOwnWeightsWhenItGetsNone,
                            SaysWhatForwardTakesAndGives, LargeAndEmptyInputsCross, ManyAskersGetTheirOwnAnswers,
                            ThreadsMayBeLentToIt, RefusesWeightsThatDoNotFitInTorchsWords, RefusesWhatIsNoModule,
                            RefusesTrainModeThatIsBakedIn, RefusesADeviceThatIsNotThere, AModelThatThrowsGoesOn,
                            ARequestThatIsLateIsNotRun, AfterCancelLoadsNothingLoadsAndWhatIsLoadedGoesOn);

}  // namespace sconce::inference

#endif  // SCONCE_TESTS_CONTRACT_RUNTIME_CONTRACT_H_
