#include "server/services/model_convert.h"

#include <google/protobuf/util/field_mask_util.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "proto/wire/tree_codec.h"
#include "server/inference/datatype.h"
#include "server/services/convert.h"
#include "server/services/prepared_view.h"
#include "server/services/update_mask.h"
#include "storage/format/device_map.h"

namespace sconce::services {
namespace {

using inference::DeploymentSpec;
using inference::ModelState;
using inference::TensorSpec;
using inference::Transition;
using inference::VersionRole;

constexpr int32_t kMaxInstances = 64;
constexpr int32_t kMaxWarmUpRuns = 100;
constexpr absl::Duration kMaxQueueDelay = absl::Seconds(10);
constexpr absl::string_view kUpdatable[] = {"weights", "device",  "cast",          "batching",   "instance_count",
                                            "inputs",  "outputs", "warm_up",       "transition", "keep_previous",
                                            "canary",  "shadow",  "pinned_version"};
constexpr absl::string_view kOutputOnly[] = {"name", "state", "reason", "versions", "create_time", "etag"};

absl::Status Invalid(absl::string_view field, absl::string_view message) {
  return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("model.", field, " ", message),
                   {{"field", absl::StrCat("model.", field)}});
}

v1::Model::State StateToProto(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return v1::Model::LOADING;
    case ModelState::kReady:
      return v1::Model::READY;
    case ModelState::kFailed:
      return v1::Model::FAILED;
    case ModelState::kUnloaded:
      return v1::Model::UNLOADED;
  }
  return v1::Model::STATE_UNSPECIFIED;
}

v1::Model::Role RoleToProto(VersionRole role) {
  switch (role) {
    case VersionRole::kNone:
      break;
    case VersionRole::kServing:
      return v1::Model::SERVING;
    case VersionRole::kCanary:
      return v1::Model::CANARY;
    case VersionRole::kShadow:
      return v1::Model::SHADOW;
    case VersionRole::kPrevious:
      return v1::Model::PREVIOUS;
  }
  return v1::Model::ROLE_UNSPECIFIED;
}

void WeightsToProto(const inference::WeightsRef& weights, v1::WeightSource& proto) {
  proto.set_checkpoint(wire::FormatCheckpoint(weights.run.project, weights.run.run, weights.selector));
  proto.set_path(weights.path);
  proto.set_lenient(weights.match.lenient);
  if (!weights.rules.empty()) *proto.mutable_rules() = wire::ToProto(weights.rules);
  proto.set_min_match(weights.match.min_match);
}

void TensorsToProto(const std::vector<TensorSpec>& specs, google::protobuf::RepeatedPtrField<v1::TensorSpec>& protos) {
  for (const TensorSpec& spec : specs) {
    v1::TensorSpec& proto = *protos.Add();
    proto.set_name(spec.name);
    proto.set_datatype(std::string(inference::DatatypeOfDType(spec.dtype)));
    for (const int64_t extent : spec.shape) proto.add_shape(extent);
  }
}

// What has another value than a deployment has by default.
void LoadingToProto(const DeploymentSpec& spec, v1::Model& model) {
  if (!spec.cast.empty()) {
    model.mutable_cast()->set_dtype(spec.cast.dtype);
    for (const format::DtypeRule& rule : spec.cast.rules) {
      v1::DtypeRule& proto = *model.mutable_cast()->add_rules();
      proto.set_pattern(rule.pattern);
      proto.set_dtype(rule.dtype);
    }
  }
  v1::Batching& batching = *model.mutable_batching();
  batching.set_max_batch_size(static_cast<int32_t>(spec.batching.max_batch_size));
  if (const absl::Duration delay = spec.batching.max_queue_delay; delay > absl::ZeroDuration()) {
    batching.mutable_max_queue_delay()->set_seconds(absl::ToInt64Seconds(delay));
    batching.mutable_max_queue_delay()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(delay % absl::Seconds(1))));
  }
  batching.set_max_queue_size(static_cast<int32_t>(spec.batching.max_queue_size));
  batching.set_max_queue_bytes(spec.batching.max_queue_bytes);
  model.set_instance_count(spec.instances);
  TensorsToProto(spec.inputs, *model.mutable_inputs());
  TensorsToProto(spec.outputs, *model.mutable_outputs());
  const inference::WarmUp& warm_up = spec.warm_up;
  if (warm_up.runs == 1 && warm_up.tensors.empty()) return;
  model.mutable_warm_up()->set_runs(warm_up.runs);
  for (const inference::WarmUpTensor& tensor : warm_up.tensors) {
    v1::WarmUpTensor& proto = *model.mutable_warm_up()->add_tensors();
    proto.set_name(tensor.name);
    proto.set_datatype(std::string(inference::DatatypeOfDType(tensor.dtype)));
    for (const int64_t extent : tensor.shape) proto.add_shape(extent);
    proto.set_raw(tensor.bytes);
  }
}

void RolesToProto(const DeploymentSpec& spec, v1::Model& model) {
  model.set_transition(spec.transition == Transition::kResourcePreserving ? v1::Model::RESOURCE_PRESERVING
                                                                          : v1::Model::AVAILABILITY_PRESERVING);
  model.set_keep_previous(spec.keep_previous);
  model.set_pinned_version(spec.pinned_version);
  if (spec.canary.has_value()) {
    model.mutable_canary()->set_checkpoint(spec.canary->selector);
    model.mutable_canary()->set_weight(spec.canary->weight);
  }
  if (!spec.shadow.empty()) model.mutable_shadow()->set_checkpoint(spec.shadow);
}

v1::Model SpecToProto(const DeploymentSpec& spec) {
  v1::Model model;
  model.set_module(wire::FormatModule(spec.module_run.project, spec.module_run.run, spec.module));
  if (spec.weights.has_value()) WeightsToProto(*spec.weights, *model.mutable_weights());
  model.set_device(spec.device);
  LoadingToProto(spec, model);
  RolesToProto(spec, model);
  return model;
}

absl::Status ReadWeights(const v1::Model& model, DeploymentSpec& spec) {
  const v1::WeightSource& weights = model.weights();
  if (weights.checkpoint().empty()) {
    if (!model.has_weights() || weights.ByteSizeLong() == 0) return absl::OkStatus();
    return Invalid("weights", "says how to load without model.weights.checkpoint; name the checkpoint to load");
  }
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef checkpoint, wire::ParseCheckpoint(weights.checkpoint()));
  spec.weights = inference::WeightsRef{{checkpoint.run.project, checkpoint.run.run},
                                       checkpoint.id,
                                       weights.path(),
                                       wire::FromProto(weights.rules()),
                                       {weights.lenient(), weights.min_match()}};
  SCONCE_RETURN_IF_ERROR(format::CheckKeyRules(spec.weights->rules));
  if (!(weights.min_match() >= 0 && weights.min_match() <= 1)) {
    return Invalid("weights.min_match", "is a share, from 0 to 1");
  }
  return absl::OkStatus();
}

absl::Status ReadBatching(const v1::Batching& proto, inference::BatchPolicy& batching) {
  if (proto.max_batch_size() < 0) return Invalid("batching.max_batch_size", "is negative; 0 means no batching");
  if (proto.max_queue_size() < 0) return Invalid("batching.max_queue_size", "is negative; 0 means 128");
  if (proto.max_queue_bytes() < 0) return Invalid("batching.max_queue_bytes", "is negative; 0 means 256 MiB");
  batching.max_batch_size = proto.max_batch_size();
  if (proto.max_queue_size() > 0) batching.max_queue_size = proto.max_queue_size();
  if (proto.max_queue_bytes() > 0) batching.max_queue_bytes = proto.max_queue_bytes();
  batching.max_queue_delay =
      absl::Seconds(proto.max_queue_delay().seconds()) + absl::Nanoseconds(proto.max_queue_delay().nanos());
  if (batching.max_queue_delay < absl::ZeroDuration() || batching.max_queue_delay > kMaxQueueDelay) {
    return Invalid("batching.max_queue_delay", "is from 0 to 10 seconds");
  }
  return absl::OkStatus();
}

absl::StatusOr<format::DType> ReadDatatype(absl::string_view field, const std::string& name,
                                           const std::string& datatype) {
  if (name.empty()) return Invalid(field, "has a tensor without a name");
  const std::optional<format::DType> dtype = inference::DTypeOfDatatype(datatype);
  if (dtype.has_value()) return *dtype;
  return Invalid(field, absl::StrCat("has datatype ", Quoted(datatype, 40), " for '", name,
                                     "'; use one of BOOL UINT8 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64"));
}

absl::Status ReadTensors(absl::string_view field, const google::protobuf::RepeatedPtrField<v1::TensorSpec>& protos,
                         std::vector<TensorSpec>& specs) {
  for (const v1::TensorSpec& proto : protos) {
    TensorSpec spec;
    spec.name = proto.name();
    SCONCE_ASSIGN_OR_RETURN(spec.dtype, ReadDatatype(field, proto.name(), proto.datatype()));
    for (const int64_t extent : proto.shape()) {
      if (extent < -1) return Invalid(field, absl::StrCat("has a dimension of ", extent, "; -1 stands for any"));
      spec.shape.push_back(extent);
    }
    specs.push_back(std::move(spec));
  }
  return absl::OkStatus();
}

absl::Status ReadWarmUp(const v1::WarmUp& proto, inference::WarmUp& warm_up) {
  if (proto.runs() < 0 || proto.runs() > kMaxWarmUpRuns) return Invalid("warm_up.runs", "is from 1 to 100; 0 means 1");
  if (proto.runs() > 0) warm_up.runs = proto.runs();
  for (const v1::WarmUpTensor& given : proto.tensors()) {
    inference::WarmUpTensor tensor;
    tensor.name = given.name();
    SCONCE_ASSIGN_OR_RETURN(tensor.dtype, ReadDatatype("warm_up.tensors", given.name(), given.datatype()));
    tensor.shape.assign(given.shape().begin(), given.shape().end());
    tensor.bytes = given.raw();
    const int64_t elements = format::ElementCount(tensor.shape);
    const auto size = static_cast<int64_t>(tensor.bytes.size());
    if (elements < 0 || elements > size || elements * format::ElementBytes(tensor.dtype) != size) {
      return Invalid("warm_up.tensors", absl::StrCat("has ", size, " bytes for '", given.name(),
                                                     "', which is not what its shape and datatype take"));
    }
    warm_up.tensors.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::Status CheckSelector(absl::string_view field, const std::string& selector, const DeploymentSpec& spec) {
  if (!spec.weights.has_value()) return Invalid(field, "needs model.weights: the module's own are one version");
  const inference::RunId& run = spec.weights->run;
  const bool valid = selector.find('/') == std::string::npos &&
                     wire::ParseCheckpoint(wire::FormatCheckpoint(run.project, run.run, selector)).ok();
  return valid ? absl::OkStatus() : Invalid(field, "is a version number, latest, best or an alias of the same run");
}

absl::Status ReadRoles(const v1::Model& model, DeploymentSpec& spec) {
  if (model.transition() == v1::Model::RESOURCE_PRESERVING) spec.transition = Transition::kResourcePreserving;
  spec.keep_previous = model.keep_previous();
  if (spec.keep_previous && spec.transition == Transition::kResourcePreserving) {
    return Invalid("keep_previous", "and transition RESOURCE_PRESERVING contradict each other; choose one");
  }
  if (model.pinned_version() < 0) return Invalid("pinned_version", "is negative; 0 means none");
  spec.pinned_version = model.pinned_version();
  if (spec.pinned_version > 0 && !spec.weights.has_value()) {
    return Invalid("pinned_version", "needs model.weights: the module's own are one version");
  }
  if (model.has_canary()) {
    SCONCE_RETURN_IF_ERROR(CheckSelector("canary.checkpoint", model.canary().checkpoint(), spec));
    if (!(model.canary().weight() >= 0 && model.canary().weight() <= 1)) {
      return Invalid("canary.weight", "is a share, from 0 to 1");
    }
    spec.canary = inference::Canary{model.canary().checkpoint(), model.canary().weight()};
  }
  if (!model.has_shadow()) return absl::OkStatus();
  spec.shadow = model.shadow().checkpoint();
  return CheckSelector("shadow.checkpoint", spec.shadow, spec);
}

}  // namespace

v1::Model ModelToProto(const inference::DeploymentStatus& status) {
  v1::Model model = SpecToProto(status.spec);
  model.set_name(wire::FormatModel(status.model));
  model.set_state(StateToProto(status.state));
  model.set_reason(status.reason);
  for (const inference::VersionStatus& version : status.versions) {
    v1::Model::Version& shown = *model.add_versions();
    shown.set_version(version.version);
    shown.set_state(StateToProto(version.state));
    shown.set_reason(version.reason);
    *shown.mutable_transition_time() = TimeToProto(version.transition_time);
    shown.set_role(RoleToProto(version.role));
    shown.set_note(version.note);
  }
  *model.mutable_create_time() = TimeToProto(status.create_time);
  model.set_etag(status.etag);
  return model;
}

absl::StatusOr<DeploymentSpec> SpecFromProto(const v1::Model& model) {
  DeploymentSpec spec;
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef module, wire::ParseModule(model.module()));
  spec.module_run = {module.run.project, module.run.run};
  spec.module = module.id;
  SCONCE_RETURN_IF_ERROR(ReadWeights(model, spec));
  if (!model.device().empty()) spec.device = model.device();
  SCONCE_RETURN_IF_ERROR(format::ValidateDevice(spec.device));
  SCONCE_ASSIGN_OR_RETURN(spec.cast, ReadCast(model.cast()));
  if (!spec.cast.empty() && !spec.weights.has_value()) {
    return Invalid("cast", "converts weights; it needs model.weights");
  }
  SCONCE_RETURN_IF_ERROR(ReadBatching(model.batching(), spec.batching));
  if (model.instance_count() < 0 || model.instance_count() > kMaxInstances) {
    return Invalid("instance_count", "is from 1 to 64; 0 means 1");
  }
  spec.instances = std::max(1, model.instance_count());
  SCONCE_RETURN_IF_ERROR(ReadTensors("inputs", model.inputs(), spec.inputs));
  SCONCE_RETURN_IF_ERROR(ReadTensors("outputs", model.outputs(), spec.outputs));
  SCONCE_RETURN_IF_ERROR(ReadWarmUp(model.warm_up(), spec.warm_up));
  SCONCE_RETURN_IF_ERROR(ReadRoles(model, spec));
  return spec;
}

absl::StatusOr<DeploymentSpec> ApplyUpdate(const DeploymentSpec& now, const v1::UpdateModelRequest& request) {
  std::set<std::string> populated;
  std::vector<const google::protobuf::FieldDescriptor*> set_fields;
  request.model().GetReflection()->ListFields(request.model(), &set_fields);
  for (const auto* field : set_fields) {
    if (std::find(std::begin(kUpdatable), std::end(kUpdatable), ToAbsl(field->name())) != std::end(kUpdatable)) {
      populated.insert(field->name());
    }
  }
  SCONCE_ASSIGN_OR_RETURN(const std::set<std::string> fields,
                          FieldsToUpdate(request.update_mask(), kUpdatable, kOutputOnly, populated));
  v1::Model changed = SpecToProto(now);
  if (!request.model().module().empty() && request.model().module() != changed.module()) {
    return Invalid("module", "never changes, or its version numbers would mean something else; deploy another model");
  }
  google::protobuf::FieldMask mask;
  for (const std::string& field : fields) mask.add_paths(field);
  google::protobuf::util::FieldMaskUtil::MergeOptions replace;
  replace.set_replace_message_fields(true);
  replace.set_replace_repeated_fields(true);
  google::protobuf::util::FieldMaskUtil::MergeMessageTo(request.model(), mask, replace, &changed);
  return SpecFromProto(changed);
}

}  // namespace sconce::services
