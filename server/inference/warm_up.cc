#include "server/inference/warm_up.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/batch_tensors.h"

namespace sconce::inference {
namespace {

using format::DType;

// A warm-up for an operator's spec is small; one of gigabytes is a mistake.
constexpr int64_t kMaxMadeUpBytes = int64_t{1} << 28;

// The bits that are all ones in what is NaN or infinite; 0 for dtypes without either.
uint64_t ExponentMask(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return 0x7C00;
    case DType::kBFloat16:
      return 0x7F80;
    case DType::kFloat32:
      return 0x7F800000;
    case DType::kFloat64:
      return 0x7FF0000000000000;
    default:
      return 0;
  }
}

uint64_t BitsAt(const HostTensor& tensor, size_t index, size_t width) {
  uint64_t bits = 0;  // little-endian, as is the machine
  std::memcpy(&bits, tensor.bytes.data() + index * width, width);
  return bits;
}

// Numbers in [0, 1) that are the same everywhere (Numerical Recipes' generator, its upper bits).
class Numbers {
 public:
  explicit Numbers(int seed) : state_(static_cast<uint32_t>(seed) * 2654435761U + 1U) {}
  float Next() {
    state_ = state_ * 1664525U + 1013904223U;
    return static_cast<float>(state_ >> 8) / 16777216.0F;
  }

 private:
  uint32_t state_;
};

void FillFloats(DType dtype, int seed, std::vector<uint8_t>& bytes) {
  Numbers numbers(seed);
  const size_t width = static_cast<size_t>(format::ElementBytes(dtype));
  for (size_t at = 0; at + width <= bytes.size(); at += width) {
    const float value = numbers.Next();
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    const double wide = value;
    const auto half = static_cast<uint16_t>(value < 0.5F ? 0x3000 : 0x3800);  // 1/8 or 1/2
    const auto brain = static_cast<uint16_t>(bits >> 16);
    const void* from = dtype == DType::kFloat64    ? static_cast<const void*>(&wide)
                       : dtype == DType::kFloat16  ? static_cast<const void*>(&half)
                       : dtype == DType::kBFloat16 ? static_cast<const void*>(&brain)
                                                   : static_cast<const void*>(&value);
    std::memcpy(bytes.data() + at, from, width);
  }
}

HostTensor Given(const WarmUpTensor& tensor) {
  return {tensor.name, tensor.dtype, tensor.shape, AsBytes(tensor.bytes), nullptr};
}

// Empty bytes and shape for one that would be too large.
HostTensor MakeUp(const TensorSpec& spec, int seed) {
  HostTensor tensor{spec.name, spec.dtype, spec.shape, {}, nullptr};
  for (int64_t& extent : tensor.shape) extent = extent == -1 ? 1 : extent;
  const int64_t elements = format::ElementCount(tensor.shape);
  const int64_t width = format::ElementBytes(spec.dtype);
  if (elements < 0 || elements > kMaxMadeUpBytes / width) return {};
  auto bytes = std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(elements * width));
  if (ExponentMask(spec.dtype) != 0) FillFloats(spec.dtype, seed, *bytes);
  tensor.bytes = ByteSpan(bytes->data(), bytes->size());
  tensor.owner = std::move(bytes);
  return tensor;
}

InferResult Ask(LoadedModel& model, const std::vector<HostTensor>& inputs) {
  auto promise = std::make_shared<std::promise<InferResult>>();
  std::future<InferResult> future = promise->get_future();
  model.Infer(inputs, absl::InfiniteFuture(), [promise](InferResult result) { promise->set_value(std::move(result)); });
  return future.get();
}

absl::Status Refused(const absl::Status& why) {
  return MakeError(Reason::MODEL_WARM_UP_FAILED, absl::StrCat("the warm-up failed: ", why.message()));
}

double ValueAt(const HostTensor& tensor, size_t index) {
  const size_t width = static_cast<size_t>(format::ElementBytes(tensor.dtype));
  if (tensor.dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, tensor.bytes.data() + index * width, width);
    return value;
  }
  double value;
  std::memcpy(&value, tensor.bytes.data() + index * width, width);
  return value;
}

// Companions may change the last bits, since sums are taken in another order, and no more. Floats of 32 and 64 bits
// are compared; the others round too coarsely to tell.
absl::Status CompareRows(const std::vector<HostTensor>& alone, const std::vector<HostTensor>& in_company) {
  for (size_t i = 0; i < alone.size(); ++i) {
    if (alone[i].dtype != DType::kFloat32 && alone[i].dtype != DType::kFloat64) continue;
    const size_t count = alone[i].bytes.size() / static_cast<size_t>(format::ElementBytes(alone[i].dtype));
    for (size_t at = 0; at < count && in_company[i].bytes.size() == alone[i].bytes.size(); ++at) {
      const double a = ValueAt(alone[i], at), b = ValueAt(in_company[i], at);
      if (std::abs(a - b) <= 1e-3 + 1e-3 * std::abs(a)) continue;
      return MakeError(Reason::MODEL_FAILED,
                       absl::StrCat("output '", alone[i].name, "' of a row depends on the other rows of its batch: ", a,
                                    " alone, ", b, " in company"));
    }
  }
  return absl::OkStatus();
}

// Why requests must not be joined, or OK. Errors of runs that say nothing about that are OK too.
absl::Status TryInCompany(LoadedModel& model, const DeploymentSpec& spec, const std::vector<HostTensor>& inputs,
                          const std::vector<HostTensor>& alone) {
  const ModelSignature& signature = model.signature();
  const BatchShape shape = ShapeOf(inputs, signature);
  if (shape.key.empty()) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(CheckRows(alone, shape.rows));
  if (shape.rows > spec.batching.max_batch_size / 2) return absl::OkStatus();
  std::string ignored;
  const std::vector<HostTensor> companions = WarmUpInputs(spec, signature, /*seed=*/2, ignored);
  if (ShapeOf(companions, signature).key != shape.key) return absl::OkStatus();
  const InferResult both = Ask(model, Join({&inputs, &companions}, signature));
  if (!both.ok()) return both.status();
  SCONCE_ASSIGN_OR_RETURN(const auto parts, Divide(*both, {shape.rows, shape.rows}));
  if (parts[0].size() != alone.size()) return absl::OkStatus();
  return CompareRows(alone, parts[0]);
}

}  // namespace

std::vector<HostTensor> WarmUpInputs(const DeploymentSpec& spec, const ModelSignature& signature, int seed,
                                     std::string& why_none) {
  std::vector<HostTensor> inputs;
  for (size_t i = 0; i < signature.inputs.size(); ++i) {
    const ModelArgument& argument = signature.inputs[i];
    const auto is_this = [&](const auto& named) { return FindArgument(named.name, signature) == static_cast<int>(i); };
    const auto given = std::find_if(spec.warm_up.tensors.begin(), spec.warm_up.tensors.end(), is_this);
    const auto described = std::find_if(spec.inputs.begin(), spec.inputs.end(), is_this);
    HostTensor tensor;
    if (given != spec.warm_up.tensors.end()) {
      tensor = Given(*given);
    } else if (described != spec.inputs.end()) {
      tensor = MakeUp(*described, seed * 1000 + static_cast<int>(i));
    }
    if (tensor.name.empty()) {
      if (!argument.required) continue;
      why_none = absl::StrCat("no warm-up: the deployment does not describe input '", argument.name, "'");
      return {};
    }
    tensor.name = argument.name;
    inputs.push_back(std::move(tensor));
  }
  if (inputs.empty()) why_none = "no warm-up: the deployment describes no inputs";
  return inputs;
}

absl::Status CheckFinite(const std::vector<HostTensor>& outputs) {
  for (const HostTensor& output : outputs) {
    const uint64_t mask = ExponentMask(output.dtype);
    if (mask == 0) continue;
    const auto width = static_cast<size_t>(format::ElementBytes(output.dtype));
    for (size_t i = 0; i < output.bytes.size() / width; ++i) {
      if ((BitsAt(output, i, width) & mask) != mask) continue;
      return MakeError(Reason::MODEL_WARM_UP_FAILED,
                       absl::StrCat("output '", output.name, "' has NaN or an infinity (element ", i, " of ",
                                    output.bytes.size() / width, ")"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<WarmUpReport> RunWarmUp(const DeploymentSpec& spec,
                                       const std::vector<std::shared_ptr<LoadedModel>>& instances) {
  WarmUpReport report;
  const std::vector<HostTensor> inputs = WarmUpInputs(spec, instances[0]->signature(), /*seed=*/1, report.note);
  if (inputs.empty()) return report;
  std::vector<HostTensor> outputs;
  for (const std::shared_ptr<LoadedModel>& instance : instances) {
    for (int32_t run = 0; run < spec.warm_up.runs; ++run) {
      InferResult result = Ask(*instance, inputs);
      if (HasReason(result.status(), Reason::MODEL_FAILED) || HasReason(result.status(), Reason::MODEL_INPUT_INVALID) ||
          HasReason(result.status(), Reason::WORKER_MEMORY_EXCEEDED)) {
        return Refused(result.status());
      }
      SCONCE_RETURN_IF_ERROR(result.status());
      for (const absl::Status& check : {CheckFinite(*result), CheckOutputs(spec.outputs, *result)}) {
        if (!check.ok()) return Refused(check);
      }
      outputs = *std::move(result);
    }
  }
  if (spec.batching.max_batch_size > 0) {
    const absl::Status joined = TryInCompany(*instances[0], spec, inputs, outputs);
    report.unbatched_reason = std::string(joined.message());
  }
  return report;
}

}  // namespace sconce::inference
