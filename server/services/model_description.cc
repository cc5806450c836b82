#include "server/services/model_description.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/batcher.h"
#include "server/inference/datatype.h"
#include "server/inference/tensor_spec.h"

namespace sconce::services {
namespace {

namespace oip = ::inference;
using inference::DeploymentStatus;
using inference::DurationSum;
using inference::ModelManager;
using inference::ModelState;
using inference::ServingModel;
using inference::TensorSpec;
using rpc::CallScope;

constexpr char kPlatform[] = "pytorch_torchscript";
constexpr char kBackend[] = "pytorch";

// An input or output as far as it is known.
struct Described {
  std::string name;
  const TensorSpec* spec = nullptr;  // null: only its name is known
};

std::vector<Described> Inputs(const ServingModel& serving) {
  const inference::ModelSignature& signature = serving.loaded->signature();
  std::vector<Described> inputs;
  for (const inference::ModelArgument& argument : signature.inputs) inputs.push_back({argument.name, nullptr});
  for (const TensorSpec& spec : serving.spec->inputs) {
    const int argument = inference::FindArgument(spec.name, signature);
    if (argument >= 0) inputs[static_cast<size_t>(argument)] = {spec.name, &spec};
  }
  return inputs;
}

std::vector<Described> Outputs(const ServingModel& serving) {
  std::vector<Described> outputs;
  for (const TensorSpec& spec : serving.spec->outputs) outputs.push_back({spec.name, &spec});
  for (const std::string& name : serving.loaded->signature().outputs) {
    const bool known = std::any_of(outputs.begin(), outputs.end(), [&](const auto& one) { return one.name == name; });
    if (!known) outputs.push_back({name, nullptr});
  }
  return outputs;
}

void AddTensors(const std::vector<Described>& described,
                google::protobuf::RepeatedPtrField<oip::ModelMetadataResponse::TensorMetadata>& tensors) {
  for (const Described& one : described) {
    auto& added = *tensors.Add();
    added.set_name(one.name);
    if (one.spec == nullptr) {
      added.add_shape(-1);
      continue;
    }
    added.set_datatype(std::string(inference::DatatypeOfDType(one.spec->dtype)));
    for (const int64_t extent : one.spec->shape) added.add_shape(extent);
  }
}

// Triton's name of a datatype: TYPE_FP32 for FP32.
oip::DataType TritonType(format::DType dtype) {
  oip::DataType type = oip::TYPE_INVALID;
  oip::DataType_Parse(absl::StrCat("TYPE_", inference::DatatypeOfDType(dtype)), &type);
  return type;
}

template <typename Tensor>
void AddConfig(const Described& described, bool batched, Tensor& tensor) {
  tensor.set_name(described.name);
  if (described.spec == nullptr) {
    tensor.add_dims(-1);
    return;
  }
  tensor.set_data_type(TritonType(described.spec->dtype));
  const format::Dims& shape = described.spec->shape;
  for (size_t i = batched ? 1 : 0; i < shape.size(); ++i) tensor.add_dims(shape[i]);
}

void Set(const DurationSum& sum, oip::StatisticDuration& proto) {
  proto.set_count(sum.count);
  proto.set_ns(static_cast<uint64_t>(absl::ToInt64Nanoseconds(sum.total)));
}

void AddStatistics(const ServingModel& serving, oip::ModelStatistics& proto) {
  const inference::InferStatistics statistics = serving.loaded->statistics();
  proto.set_name(serving.model);
  proto.set_version(absl::StrCat(serving.version));
  if (statistics.last_inference != absl::InfinitePast()) {
    proto.set_last_inference(static_cast<uint64_t>(absl::ToUnixMillis(statistics.last_inference)));
  }
  proto.set_inference_count(statistics.inference_count);
  proto.set_execution_count(statistics.execution_count);
  oip::InferStatistics& sums = *proto.mutable_inference_stats();
  Set(statistics.success, *sums.mutable_success());
  Set(statistics.fail, *sums.mutable_fail());
  Set(statistics.queue, *sums.mutable_queue());
  Set(statistics.compute.input, *sums.mutable_compute_input());
  Set(statistics.compute.infer, *sums.mutable_compute_infer());
  Set(statistics.compute.output, *sums.mutable_compute_output());
  sums.mutable_cache_hit();  // there is no cache
  sums.mutable_cache_miss();
  for (const auto& [size, runs] : statistics.by_batch_size) {
    oip::InferBatchStatistics& batch = *proto.add_batch_stats();
    batch.set_batch_size(static_cast<uint64_t>(size));
    Set(runs.input, *batch.mutable_compute_input());
    Set(runs.infer, *batch.mutable_compute_infer());
    Set(runs.output, *batch.mutable_compute_output());
  }
  const int64_t memory_bytes = serving.loaded->memory_bytes();
  if (memory_bytes == 0) return;
  oip::MemoryUsage& memory = *proto.add_memory_usage();
  memory.set_type("CPU");
  memory.set_byte_size(static_cast<uint64_t>(memory_bytes));
}

absl::string_view StateName(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return "LOADING";
    case ModelState::kReady:
      return "READY";
    case ModelState::kFailed:
    case ModelState::kUnloaded:
      return "UNAVAILABLE";
  }
  return "UNKNOWN";
}

}  // namespace

absl::Status CheckRepositoryName(const std::string& name) {
  if (name.empty()) return absl::OkStatus();
  return MakeError(Reason::NOT_IMPLEMENTED, "'repository_name' specification is not supported; leave it out");
}

absl::Status ModelReady(ModelManager& models, CallScope& scope, const oip::ModelReadyRequest& request,
                        oip::ModelReadyResponse& response) {
  scope.SetResource(request.name());
  const auto serving = models.Acquire(request.name(), request.version());
  if (!serving.ok() && !HasReason(serving.status(), Reason::MODEL_NOT_READY)) return serving.status();
  response.set_ready(serving.ok() && (*serving)->loaded->Health().ok());
  return absl::OkStatus();
}

absl::Status ModelMetadata(ModelManager& models, CallScope& scope, const oip::ModelMetadataRequest& request,
                           oip::ModelMetadataResponse& response) {
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const auto serving, models.Acquire(request.name(), request.version()));
  response.set_name(request.name());
  for (const auto& loaded : models.Loaded()) {
    const std::string version = absl::StrCat(loaded->version);
    const auto& listed = response.versions();
    const bool is_new = std::find(listed.begin(), listed.end(), version) == listed.end();
    if (loaded->model == request.name() && is_new) response.add_versions(version);
  }
  response.set_platform(kPlatform);
  AddTensors(Inputs(*serving), *response.mutable_inputs());
  AddTensors(Outputs(*serving), *response.mutable_outputs());
  return absl::OkStatus();
}

absl::Status ModelConfig(ModelManager& models, CallScope& scope, const oip::ModelConfigRequest& request,
                         oip::ModelConfigResponse& response) {
  scope.SetResource(request.name());
  SCONCE_ASSIGN_OR_RETURN(const auto serving, models.Acquire(request.name(), request.version()));
  const inference::DeploymentSpec& spec = *serving->spec;
  const bool batched = spec.batching.max_batch_size > 0;
  oip::ModelConfig& config = *response.mutable_config();
  config.set_name(request.name());
  config.set_platform(kPlatform);
  config.set_backend(kBackend);
  config.set_max_batch_size(static_cast<int32_t>(spec.batching.max_batch_size));
  for (const Described& input : Inputs(*serving)) AddConfig(input, batched, *config.add_input());
  for (const Described& output : Outputs(*serving)) AddConfig(output, batched, *config.add_output());
  oip::ModelInstanceGroup& group = *config.add_instance_group();
  group.set_name(request.name());
  group.set_count(spec.instances);
  group.set_kind(spec.device == "cpu" ? oip::ModelInstanceGroup::KIND_CPU : oip::ModelInstanceGroup::KIND_GPU);
  if (!batched) return absl::OkStatus();
  oip::ModelDynamicBatching& batching = *config.mutable_dynamic_batching();
  batching.set_max_queue_delay_microseconds(
      static_cast<uint64_t>(absl::ToInt64Microseconds(spec.batching.max_queue_delay)));
  batching.mutable_default_queue_policy()->set_max_queue_size(static_cast<uint32_t>(spec.batching.max_queue_size));
  return absl::OkStatus();
}

absl::Status ModelStatistics(ModelManager& models, CallScope& scope, const oip::ModelStatisticsRequest& request,
                             oip::ModelStatisticsResponse& response) {
  scope.SetResource(request.name());
  if (!request.version().empty()) {
    SCONCE_ASSIGN_OR_RETURN(const auto serving, models.Acquire(request.name(), request.version()));
    AddStatistics(*serving, *response.add_model_stats());
    return absl::OkStatus();
  }
  if (!request.name().empty()) SCONCE_RETURN_IF_ERROR(models.Acquire(request.name(), "").status());
  for (const auto& loaded : models.Loaded()) {
    if (request.name().empty() || loaded->model == request.name()) AddStatistics(*loaded, *response.add_model_stats());
  }
  return absl::OkStatus();
}

absl::Status RepositoryIndex(ModelManager& models, CallScope&, const oip::RepositoryIndexRequest& request,
                             oip::RepositoryIndexResponse& response) {
  SCONCE_RETURN_IF_ERROR(CheckRepositoryName(request.repository_name()));
  const auto add = [&](const std::string& model, const std::string& version, ModelState state,
                       const std::string& reason) {
    if (request.ready() && state != ModelState::kReady) return;
    auto& row = *response.add_models();
    row.set_name(model);
    row.set_version(version);
    row.set_state(std::string(StateName(state)));
    row.set_reason(state == ModelState::kUnloaded ? "unloaded" : reason);
  };
  for (const DeploymentStatus& status : models.List()) {
    if (status.versions.empty()) add(status.model, "", status.state, status.reason);
    for (const inference::VersionStatus& version : status.versions) {
      add(status.model, absl::StrCat(version.version), version.state, version.reason);
    }
  }
  return absl::OkStatus();
}

}  // namespace sconce::services
