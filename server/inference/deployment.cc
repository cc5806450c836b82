#include "server/inference/deployment.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "server/worker_protocol/byte_codec.h"

namespace sconce::inference {
namespace {

using worker::ByteReader;
using worker::ByteWriter;

constexpr uint8_t kFormat = 3;
constexpr uint8_t kFormatOfWeightsOnly = 2;  // neither batching nor anything after it
constexpr uint8_t kFormatWithoutRules = 1;   // release 0.1
constexpr size_t kMaxText = size_t{64} << 10;
constexpr size_t kMaxTensorBytes = size_t{4} << 20;

void WriteRun(const RunId& run, ByteWriter& writer) {
  writer.Text(run.project);
  writer.Text(run.run);
}

RunId ReadRun(ByteReader& reader) {
  std::string project = reader.Text(kMaxText);
  return {std::move(project), reader.Text(kMaxText)};
}

void WriteMatching(const WeightsRef& weights, ByteWriter& writer) {
  writer.U32(static_cast<uint32_t>(weights.rules.strip_prefixes.size()));
  for (const std::string& prefix : weights.rules.strip_prefixes) writer.Text(prefix);
  writer.Text(weights.rules.add_prefix);
  writer.U32(static_cast<uint32_t>(weights.rules.renames.size()));
  for (const format::RenameRule& rename : weights.rules.renames) {
    writer.Text(rename.from);
    writer.Text(rename.to);
  }
  writer.U8(weights.match.lenient ? 1 : 0);
  writer.F64(weights.match.min_match);
}

void ReadMatching(ByteReader& reader, WeightsRef& weights) {
  for (uint32_t left = reader.Count(4); left > 0; --left) {
    weights.rules.strip_prefixes.push_back(reader.Text(kMaxText));
  }
  weights.rules.add_prefix = reader.Text(kMaxText);
  for (uint32_t left = reader.Count(8); left > 0; --left) {
    std::string from = reader.Text(kMaxText);
    weights.rules.renames.push_back({std::move(from), reader.Text(kMaxText)});
  }
  weights.match.lenient = reader.U8() != 0;
  weights.match.min_match = reader.F64();
}

void WriteDims(const format::Dims& dims, ByteWriter& writer) {
  writer.U32(static_cast<uint32_t>(dims.size()));
  for (const int64_t extent : dims) writer.I64(extent);
}

format::Dims ReadDims(ByteReader& reader) {
  format::Dims dims;
  for (uint32_t left = reader.Count(8); left > 0; --left) dims.push_back(reader.I64());
  return dims;
}

// By name: the numbers of DType are not for the disk.
void WriteDType(format::DType dtype, ByteWriter& writer) {
  writer.Text(format::DTypeName(dtype));
}

format::DType ReadDType(ByteReader& reader) {
  const std::optional<format::DType> dtype = format::ParseDType(reader.Text(kMaxText));
  if (!dtype.has_value()) reader.Fail();
  return dtype.value_or(format::DType::kFloat32);
}

void WriteSpecs(const std::vector<TensorSpec>& specs, ByteWriter& writer) {
  writer.U32(static_cast<uint32_t>(specs.size()));
  for (const TensorSpec& spec : specs) {
    writer.Text(spec.name);
    WriteDType(spec.dtype, writer);
    WriteDims(spec.shape, writer);
  }
}

std::vector<TensorSpec> ReadSpecs(ByteReader& reader) {
  std::vector<TensorSpec> specs;
  for (uint32_t left = reader.Count(12); left > 0; --left) {
    TensorSpec spec;
    spec.name = reader.Text(kMaxText);
    spec.dtype = ReadDType(reader);
    spec.shape = ReadDims(reader);
    specs.push_back(std::move(spec));
  }
  return specs;
}

void WriteWarmUp(const WarmUp& warm_up, ByteWriter& writer) {
  writer.U32(static_cast<uint32_t>(warm_up.runs));
  writer.U32(static_cast<uint32_t>(warm_up.tensors.size()));
  for (const WarmUpTensor& tensor : warm_up.tensors) {
    writer.Text(tensor.name);
    WriteDType(tensor.dtype, writer);
    WriteDims(tensor.shape, writer);
    writer.Text(tensor.bytes);
  }
}

WarmUp ReadWarmUp(ByteReader& reader) {
  WarmUp warm_up;
  warm_up.runs = static_cast<int32_t>(reader.U32());
  for (uint32_t left = reader.Count(16); left > 0; --left) {
    WarmUpTensor tensor;
    tensor.name = reader.Text(kMaxText);
    tensor.dtype = ReadDType(reader);
    tensor.shape = ReadDims(reader);
    tensor.bytes = reader.Text(kMaxTensorBytes);
    warm_up.tensors.push_back(std::move(tensor));
  }
  return warm_up;
}

void WriteLoading(const DeploymentSpec& spec, ByteWriter& writer) {
  writer.Text(spec.cast.dtype);
  writer.U32(static_cast<uint32_t>(spec.cast.rules.size()));
  for (const format::DtypeRule& rule : spec.cast.rules) {
    writer.Text(rule.pattern);
    writer.Text(rule.dtype);
  }
  writer.I64(spec.batching.max_batch_size);
  writer.I64(absl::ToInt64Nanoseconds(spec.batching.max_queue_delay));
  writer.I64(spec.batching.max_queue_size);
  writer.I64(spec.batching.max_queue_bytes);
  writer.U32(static_cast<uint32_t>(spec.instances));
  WriteSpecs(spec.inputs, writer);
  WriteSpecs(spec.outputs, writer);
  WriteWarmUp(spec.warm_up, writer);
}

void ReadLoading(ByteReader& reader, DeploymentSpec& spec) {
  spec.cast.dtype = reader.Text(kMaxText);
  for (uint32_t left = reader.Count(8); left > 0; --left) {
    std::string pattern = reader.Text(kMaxText);
    spec.cast.rules.push_back({std::move(pattern), reader.Text(kMaxText)});
  }
  spec.batching.max_batch_size = reader.I64();
  spec.batching.max_queue_delay = absl::Nanoseconds(reader.I64());
  spec.batching.max_queue_size = reader.I64();
  spec.batching.max_queue_bytes = reader.I64();
  spec.instances = static_cast<int32_t>(reader.U32());
  spec.inputs = ReadSpecs(reader);
  spec.outputs = ReadSpecs(reader);
  spec.warm_up = ReadWarmUp(reader);
}

void WriteRoles(const DeploymentSpec& spec, ByteWriter& writer) {
  writer.U8(spec.transition == Transition::kResourcePreserving ? 1 : 0);
  writer.U8(spec.keep_previous ? 1 : 0);
  writer.I64(spec.pinned_version);
  writer.U8(spec.canary.has_value() ? 1 : 0);
  writer.Text(spec.canary.has_value() ? spec.canary->selector : "");
  writer.F64(spec.canary.has_value() ? spec.canary->weight : 0);
  writer.Text(spec.shadow);
}

void ReadRoles(ByteReader& reader, DeploymentSpec& spec) {
  spec.transition = reader.U8() != 0 ? Transition::kResourcePreserving : Transition::kAvailabilityPreserving;
  spec.keep_previous = reader.U8() != 0;
  spec.pinned_version = reader.I64();
  const bool has_canary = reader.U8() != 0;
  Canary canary;
  canary.selector = reader.Text(kMaxText);
  canary.weight = reader.F64();
  if (has_canary) spec.canary = std::move(canary);
  spec.shadow = reader.Text(kMaxText);
}

}  // namespace

std::string EncodeDeployment(const DeploymentRecord& record) {
  ByteWriter writer;
  writer.U8(kFormat);
  WriteRun(record.spec.module_run, writer);
  writer.Text(record.spec.module);
  writer.U8(record.spec.weights.has_value() ? 1 : 0);
  const WeightsRef weights = record.spec.weights.value_or(WeightsRef{});
  WriteRun(weights.run, writer);
  writer.Text(weights.selector);
  writer.Text(weights.path);
  WriteMatching(weights, writer);
  writer.Text(record.spec.device);
  writer.Text(record.request_id);
  writer.I64(absl::ToUnixMicros(record.create_time));
  WriteLoading(record.spec, writer);
  WriteRoles(record.spec, writer);
  writer.U8(record.unloaded ? 1 : 0);
  return writer.Take();
}

absl::StatusOr<DeploymentRecord> DecodeDeployment(const std::string& bytes) {
  ByteReader reader(AsBytes(bytes));
  const uint8_t format = reader.U8();
  if (reader.ok() && (format < kFormatWithoutRules || format > kFormat)) {
    return MakeError(Reason::CATALOG_CORRUPT,
                     absl::StrCat("a deployment is recorded in format ", format, ", which this release does not know"));
  }
  DeploymentRecord record;
  record.spec.module_run = ReadRun(reader);
  record.spec.module = reader.Text(kMaxText);
  const bool has_weights = reader.U8() != 0;
  WeightsRef weights;
  weights.run = ReadRun(reader);
  weights.selector = reader.Text(kMaxText);
  weights.path = reader.Text(kMaxText);
  if (format > kFormatWithoutRules) ReadMatching(reader, weights);
  if (has_weights) record.spec.weights = weights;
  record.spec.device = reader.Text(kMaxText);
  record.request_id = reader.Text(kMaxText);
  record.create_time = absl::FromUnixMicros(reader.I64());
  if (format > kFormatOfWeightsOnly) {
    ReadLoading(reader, record.spec);
    ReadRoles(reader, record.spec);
    record.unloaded = reader.U8() != 0;
  }
  if (!reader.ok() || reader.remaining() != 0) {
    return MakeError(Reason::CATALOG_CORRUPT, "the record of a deployment is damaged");
  }
  return record;
}

bool operator==(const DeploymentSpec& a, const DeploymentSpec& b) {
  return EncodeDeployment({a, "", absl::UnixEpoch()}) == EncodeDeployment({b, "", absl::UnixEpoch()});
}

bool LoadsAlike(const DeploymentSpec& a, const DeploymentSpec& b) {
  const auto without_roles = [](DeploymentSpec spec) {
    if (spec.weights.has_value()) spec.weights->selector.clear();
    const DeploymentSpec none;
    spec.transition = none.transition;
    spec.keep_previous = none.keep_previous;
    spec.pinned_version = none.pinned_version;
    spec.canary = none.canary;
    spec.shadow = none.shadow;
    return spec;
  };
  return without_roles(a) == without_roles(b);
}

}  // namespace sconce::inference
