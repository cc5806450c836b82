#include "server/services/infer_translate.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/datatype.h"

namespace sconce::services {
namespace {

using format::DType;
using inference::HostTensor;
using ::inference::InferTensorContents;

template <typename T>
absl::Span<const T> SpanOf(const google::protobuf::RepeatedField<T>& field) {
  return absl::Span<const T>(field.data(), static_cast<size_t>(field.size()));
}

inference::TypedContents ContentsFromProto(const InferTensorContents& contents) {
  inference::TypedContents typed;
  typed.bools = SpanOf(contents.bool_contents());
  typed.ints = SpanOf(contents.int_contents());
  typed.int64s = SpanOf(contents.int64_contents());
  typed.uints = SpanOf(contents.uint_contents());
  typed.uint64s = SpanOf(contents.uint64_contents());
  typed.floats = SpanOf(contents.fp32_contents());
  typed.doubles = SpanOf(contents.fp64_contents());
  typed.byte_strings = contents.bytes_contents_size();
  return typed;
}

template <typename Stored, typename T>
void AddValues(ByteSpan bytes, google::protobuf::RepeatedField<T>& field) {
  const size_t count = bytes.size() / sizeof(Stored);
  field.Reserve(static_cast<int>(count));
  for (size_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    field.AddAlreadyReserved(static_cast<T>(value));
  }
}

// False for a dtype without a field of its own.
bool AddContents(const HostTensor& output, InferTensorContents& contents) {
  switch (output.dtype) {
    case DType::kBool:
      AddValues<uint8_t>(output.bytes, *contents.mutable_bool_contents());
      return true;
    case DType::kUInt8:
      AddValues<uint8_t>(output.bytes, *contents.mutable_uint_contents());
      return true;
    case DType::kInt8:
      AddValues<int8_t>(output.bytes, *contents.mutable_int_contents());
      return true;
    case DType::kInt16:
      AddValues<int16_t>(output.bytes, *contents.mutable_int_contents());
      return true;
    case DType::kInt32:
      AddValues<int32_t>(output.bytes, *contents.mutable_int_contents());
      return true;
    case DType::kInt64:
      AddValues<int64_t>(output.bytes, *contents.mutable_int64_contents());
      return true;
    case DType::kFloat32:
      AddValues<float>(output.bytes, *contents.mutable_fp32_contents());
      return true;
    case DType::kFloat64:
      AddValues<double>(output.bytes, *contents.mutable_fp64_contents());
      return true;
    default:
      return false;
  }
}

bool HasTypedField(const HostTensor& output) {
  return output.dtype != DType::kFloat16 && output.dtype != DType::kBFloat16;
}

}  // namespace

absl::StatusOr<inference::InferRequest> FromProto(const ::inference::ModelInferRequest& request) {
  const auto sequence = request.parameters().find("sequence_id");
  if (sequence != request.parameters().end() &&
      (sequence->second.int64_param() != 0 || sequence->second.uint64_param() != 0 ||
       !sequence->second.string_param().empty())) {
    return MakeError(Reason::NOT_IMPLEMENTED, "sequence_id: models here keep no state between requests; leave it out");
  }
  inference::InferRequest plain;
  plain.model = request.model_name();
  for (const auto& input : request.inputs()) {
    inference::RequestedInput& added = plain.inputs.emplace_back();
    added.name = input.name();
    added.datatype = input.datatype();
    added.shape.assign(input.shape().begin(), input.shape().end());
    if (input.has_contents()) added.contents = ContentsFromProto(input.contents());
    added.shared_memory = input.parameters().contains("shared_memory_region");
  }
  for (const std::string& raw : request.raw_input_contents()) plain.raw.push_back(AsBytes(raw));
  return plain;
}

absl::StatusOr<inference::VersionRequest> VersionFromProto(const ::inference::ModelInferRequest& request) {
  inference::VersionRequest wanted{request.model_version(), 0, request.id()};
  const auto min_version = request.parameters().find("min_version");
  if (min_version == request.parameters().end()) return wanted;
  wanted.min_version = min_version->second.int64_param();
  if (wanted.min_version > 0) return wanted;
  return MakeError(Reason::MODEL_INPUT_INVALID, "parameter min_version is a version number (int64_param)");
}

absl::StatusOr<absl::Time> QueueDeadline(const ::inference::ModelInferRequest& request) {
  const auto timeout = request.parameters().find("timeout");
  if (timeout == request.parameters().end()) return absl::InfiniteFuture();
  const int64_t micros = timeout->second.int64_param();
  if (micros <= 0) {
    return MakeError(Reason::MODEL_INPUT_INVALID,
                     "parameter timeout is a positive number of microseconds (int64_param)");
  }
  return absl::Now() + absl::Microseconds(micros);
}

absl::Status AddOutputs(const std::vector<HostTensor>& outputs, bool typed, ::inference::ModelInferResponse& response) {
  typed = typed && std::all_of(outputs.begin(), outputs.end(), HasTypedField);
  for (const HostTensor& output : outputs) {
    const absl::string_view datatype = inference::DatatypeOfDType(output.dtype);
    if (datatype.empty()) {
      return MakeError(Reason::MODEL_FAILED,
                       absl::StrCat("output '", output.name, "' of model '", response.model_name(), "' has dtype ",
                                    format::DTypeName(output.dtype), ", which the protocol does not know"));
    }
    auto& added = *response.add_outputs();
    added.set_name(output.name);
    added.set_datatype(std::string(datatype));
    for (const int64_t extent : output.shape) added.add_shape(extent);
    if (typed) {
      AddContents(output, *added.mutable_contents());
    } else {
      response.add_raw_output_contents(output.bytes.data(), output.bytes.size());
    }
  }
  return absl::OkStatus();
}

bool UsesTypedContents(const ::inference::ModelInferRequest& request) {
  return request.raw_input_contents_size() == 0 && std::any_of(request.inputs().begin(), request.inputs().end(),
                                                               [](const auto& input) { return input.has_contents(); });
}

}  // namespace sconce::services
