// The real worker program: the contract of every runtime, and what only torch can show.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

#include "server/inference/worker_runtime.h"
#include "tests/contract/runtime_contract.h"
#include "tests/support/temp_dir.h"

namespace sconce::inference {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string Environment(const char* name) {
  const char* value = ::getenv(name);
  return value != nullptr ? value : ".";
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string TestModule(const std::string& what) {
  return ReadFile(Environment("SCONCE_SOURCE_DIR") + "/tests/data/torchscript/" + what + ".pt");
}

WorkerOptions Options() {
  WorkerOptions options;
  options.program = Environment("SCONCE_BIN_DIR") + "/sconce-torch-worker";
  options.gives_way_for = absl::ZeroDuration();  // the machine may be busy
  return options;
}

struct TorchHarness {
  WorkerRuntime workers{Options()};
  ModelRuntime& runtime() { return workers; }
  std::string Module(const std::string& what) { return TestModule(what); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(TorchWorker, RuntimeContract, TorchHarness);

class TorchWorkerTest : public ::testing::Test {
 protected:
  static ModelSpec Spec(const std::string& module) {
    ModelSpec spec;
    spec.name = module;
    spec.device = "cpu";
    spec.module.inline_bytes = TestModule(module);
    spec.module.size_bytes = static_cast<int64_t>(spec.module.inline_bytes.size());
    return spec;
  }
  // A weight of zeros; `storage_bytes` of them.
  static void AddWeight(StateDict& weights, const std::string& name, format::Dims shape,
                        format::DType dtype = format::DType::kFloat32) {
    StateEntry entry;
    entry.name = name;
    entry.view.dtype = dtype;
    entry.view.storage = static_cast<format::StorageIndex>(weights.storages.size());
    entry.view.shape = shape;
    ASSERT_TRUE(format::ContiguousStride(shape, entry.view.stride));
    const int64_t size = format::ElementCount(shape) * format::ElementBytes(dtype);
    weights.entries.push_back(std::move(entry));
    weights.storages.push_back({size, {}, std::string(static_cast<size_t>(size), '\0')});
  }
  static HostTensor Scalar(const std::string& name, format::DType dtype, std::string bytes) {
    auto kept = std::make_shared<std::string>(std::move(bytes));
    HostTensor tensor;
    tensor.name = name;
    tensor.dtype = dtype;
    tensor.bytes = AsBytes(*kept);
    tensor.owner = kept;
    return tensor;
  }
  template <typename T>
  static std::string BytesOf(T value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  WorkerRuntime runtime_{Options()};
};

// The sentences are those that PyTorch 1.13 printed for the same module and state_dict.
TEST_F(TorchWorkerTest, KeysAndSizesThatDoNotFitAreToldInPyTorchsWordsAndOrder) {
  ModelSpec spec = Spec("linear");
  spec.weights.emplace();
  AddWeight(*spec.weights, "fc.weight", {2, 3});
  AddWeight(*spec.weights, "bn.weight", {4});
  AddWeight(*spec.weights, "bn.bias", {3});
  AddWeight(*spec.weights, "bn.num_batches_tracked", {}, format::DType::kInt64);
  for (const char* name : {"zz", "bn.extra", "fc.deep.er", "drop.mask"}) AddWeight(*spec.weights, name, {1});
  const absl::Status status = runtime_.Load(spec).status();
  EXPECT_THAT(status, FailsWith(Reason::MODEL_WEIGHTS_MISMATCH));
  EXPECT_EQ(
      std::string(status.message()),
      "Error(s) in loading state_dict for RecursiveScriptModule:\n"
      "\tMissing key(s) in state_dict: \"fc.bias\", \"bn.running_mean\", \"bn.running_var\". \n"
      "\tUnexpected key(s) in state_dict: \"zz\", \"fc.deep.er\", \"bn.extra\", \"drop.mask\". \n"
      "\tsize mismatch for fc.weight: copying a param with shape torch.Size([2, 3]) from checkpoint, the shape in "
      "current model is torch.Size([3, 2]).\n"
      "\tsize mismatch for bn.weight: copying a param with shape torch.Size([4]) from checkpoint, the shape in "
      "current model is torch.Size([3]).");
}

TEST_F(TorchWorkerTest, LenientWeightsLeaveTheRestAsTheModuleHasIt) {
  ModelSpec spec = Spec("linear");
  spec.weights.emplace();
  AddWeight(*spec.weights, "fc.bias", {3});
  AddWeight(*spec.weights, "zz", {1});
  EXPECT_THAT(runtime_.Load(spec), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("Missing key(s)")));
  spec.match.lenient = true;
  EXPECT_OK(runtime_.Load(spec));
  spec.match.min_match = 0.5;
  EXPECT_THAT(runtime_.Load(spec), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("1 of 7 keys")));
  spec.match.min_match = 0;
  spec.weights->entries[0].name = "module.fc.bias";
  EXPECT_THAT(runtime_.Load(spec), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("0 of 7 keys")));
  spec.weights->entries[0].name = "fc.weight";
  EXPECT_THAT(runtime_.Load(spec), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("size mismatch for fc.weight")));
}

TEST_F(TorchWorkerTest, TheModulesDtypeWinsAsInPyTorch) {
  ModelSpec spec = Spec("scale");
  spec.weights.emplace();
  AddWeight(*spec.weights, "w", {1}, format::DType::kFloat64);
  spec.weights->storages[0].inline_bytes = BytesOf(2.5);
  ASSERT_OK_AND_ASSIGN(const auto model, runtime_.Load(spec));
  ASSERT_OK_AND_ASSIGN(const auto outputs, Ask(*model, {FloatInput({2})}));
  EXPECT_THAT(Floats(outputs[0]), ElementsAre(5));
}

TEST_F(TorchWorkerTest, TrainModeThatIsBakedInIsNamed) {
  EXPECT_THAT(runtime_.Load(Spec("frozen")), FailsWith(Reason::TRAINING_MODE_FROZEN, HasSubstr("aten::dropout")));
  EXPECT_THAT(runtime_.Load(Spec("frozen_batch_norm")),
              FailsWith(Reason::TRAINING_MODE_FROZEN, HasSubstr("aten::batch_norm")));
  EXPECT_THAT(runtime_.Load(Spec("frozen_lstm")), FailsWith(Reason::TRAINING_MODE_FROZEN, HasSubstr("aten::lstm")));
}

TEST_F(TorchWorkerTest, TracedModulesInEvalModeAndHarmlessOnesAreServed) {
  for (const char* module : {"traced_in_eval", "harmless_dropout", "batch_statistics"}) {
    EXPECT_OK(runtime_.Load(Spec(module))) << module;
  }
}

TEST_F(TorchWorkerTest, AScriptedModuleSavedInTrainModeAnswersInEvalModeAlways) {
  ASSERT_OK_AND_ASSIGN(const auto model, runtime_.Load(Spec("linear")));
  HostTensor x = FloatInput({1, 2, 3, 4});
  x.shape = {2, 2};
  ASSERT_OK_AND_ASSIGN(const auto first, Ask(*model, {x}));
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto again, Ask(*model, {x}));
    EXPECT_EQ(Floats(again[0]), Floats(first[0]));
  }
}

TEST_F(TorchWorkerTest, ArgumentsOfAllKindsAndADictOfOutputs) {
  ASSERT_OK_AND_ASSIGN(const auto model, runtime_.Load(Spec("many")));
  ASSERT_THAT(model->signature().inputs, SizeIs(5));
  EXPECT_EQ(model->signature().inputs[4].type, "Optional[Tensor]");
  EXPECT_FALSE(model->signature().inputs[1].required);
  EXPECT_THAT(model->signature().outputs, SizeIs(0));  // only a run can tell
  ASSERT_OK_AND_ASSIGN(const auto defaults, Ask(*model, {FloatInput({1, 2})}));
  ASSERT_THAT(defaults, SizeIs(2));
  EXPECT_EQ(defaults[0].name, "y");
  EXPECT_THAT(Floats(defaults[0]), ElementsAre(2, 4));
  EXPECT_EQ(defaults[1].name, "size");
  EXPECT_EQ(defaults[1].dtype, format::DType::kInt64);
  EXPECT_THAT(defaults[1].shape, SizeIs(0));
  HostTensor bias = FloatInput({0.5});
  bias.name = "bias";
  ASSERT_OK_AND_ASSIGN(const auto given,
                       Ask(*model, {FloatInput({1, 2}), Scalar("n", format::DType::kInt64, BytesOf(int64_t{3})),
                                    Scalar("scale", format::DType::kFloat64, BytesOf(2.0)),
                                    Scalar("negate", format::DType::kBool, std::string(1, '\1')), bias}));
  EXPECT_THAT(Floats(given[0]), ElementsAre(-5.5, -11.5));
  HostTensor two = FloatInput({1, 2});
  two.name = "n";
  EXPECT_THAT(Ask(*model, {FloatInput({1, 2}), two}), FailsWith(Reason::MODEL_INPUT_INVALID, HasSubstr("one element")));
}

TEST_F(TorchWorkerTest, ATupleGivesRowMajorOutputs) {
  ASSERT_OK_AND_ASSIGN(const auto model, runtime_.Load(Spec("pair")));
  EXPECT_THAT(model->signature().outputs, ElementsAre("OUTPUT__0", "OUTPUT__1"));
  HostTensor x = FloatInput({1, -2, 3, 4, 5, 6});
  x.shape = {2, 3};
  ASSERT_OK_AND_ASSIGN(const auto outputs, Ask(*model, {x}));
  EXPECT_THAT(outputs[0].shape, ElementsAre(3, 2));
  EXPECT_THAT(Floats(outputs[0]), ElementsAre(1, 4, -2, 5, 3, 6));
  EXPECT_EQ(outputs[1].dtype, format::DType::kBool);
  EXPECT_THAT(outputs[1].bytes, ElementsAre(1, 0, 1, 1, 1, 1));
}

TEST_F(TorchWorkerTest, AnArgumentThatNoRequestCanGiveIsRefusedAtOnce) {
  EXPECT_THAT(runtime_.Load(Spec("text")), FailsWith(Reason::MODULE_INVALID, HasSubstr("'name', a str")));
}

TEST_F(TorchWorkerTest, AnOperatorsErrorIsOneLineThatSaysWhatIsWrong) {
  ASSERT_OK_AND_ASSIGN(const auto model, runtime_.Load(Spec("mismatch")));
  HostTensor x = FloatInput({1, 2, 3, 4, 5, 6});
  x.shape = {2, 3};
  const absl::Status status = Ask(*model, {x}).status();
  EXPECT_THAT(status, FailsWith(Reason::MODEL_FAILED));
  EXPECT_EQ(std::string(status.message()), "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
}

// Weights as they lie in blobs: in pieces that can be mapped, in pieces that cannot, and packed among others.
TEST_F(TorchWorkerTest, WeightsInFilesAreTheSameHoweverTheyLie) {
  TempDir folder;
  const std::string path = folder / "blob";
  const std::string module = TestModule("scale");
  const float w = 7;
  std::string file(4096 + 64, 'x');
  file += BytesOf(w);
  file.resize(8192, 'x');
  file += module.substr(0, 1000);
  file += "gap";
  const auto second = static_cast<int64_t>(file.size());
  file += module.substr(1000);
  std::ofstream(path, std::ios::binary) << file;
  auto fd = std::make_shared<UniqueFd>(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(fd->valid());
  ModelSpec spec;
  spec.device = "cpu";
  const auto size = static_cast<int64_t>(module.size());
  spec.module = {size, {{fd->get(), 8192, 1000, fd}, {fd->get(), second, size - 1000, fd}}, ""};
  spec.weights = OneWeight("w", 0);
  spec.weights->storages[0] = {4, {{fd->get(), 4096 + 64, 4, fd}}, ""};
  ASSERT_OK_AND_ASSIGN(const auto model, runtime_.Load(spec));
  ASSERT_OK_AND_ASSIGN(const auto outputs, Ask(*model, {FloatInput({2})}));
  EXPECT_THAT(Floats(outputs[0]), ElementsAre(14));
  spec.weights->storages[0].extents[0].offset = static_cast<int64_t>(file.size());  // behind the end
  EXPECT_FALSE(runtime_.Load(spec).ok());
}

}  // namespace
}  // namespace sconce::inference
