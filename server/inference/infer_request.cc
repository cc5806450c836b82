#include "server/inference/infer_request.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/inference/datatype.h"
#include "server/inference/tensor_spec.h"

namespace sconce::inference {
namespace {

using format::DType;

absl::Status Invalid(absl::string_view message) {
  return MakeError(Reason::MODEL_INPUT_INVALID, message);
}

// "['a', 'b']"
std::string QuotedList(const std::vector<std::string>& names) {
  return absl::StrCat("['", absl::StrJoin(names, "','"), "']");
}

template <typename To, typename From>
bool Pack(absl::Span<const From> values, std::vector<uint8_t>& out) {
  out.resize(values.size() * sizeof(To));
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (!std::is_same_v<To, From> && !std::is_same_v<From, bool>) {
      if (values[i] < static_cast<From>(std::numeric_limits<To>::min()) ||
          values[i] > static_cast<From>(std::numeric_limits<To>::max())) {
        return false;
      }
    }
    const To value = static_cast<To>(values[i]);
    std::memcpy(out.data() + i * sizeof(To), &value, sizeof(To));
  }
  return true;
}

struct Packed {
  std::vector<uint8_t> bytes;
  size_t elements = 0;  // in the field that belongs to the datatype
  bool in_range = true;
  bool supported = true;
};

Packed PackTyped(DType dtype, const TypedContents& contents) {
  Packed packed;
  const auto pack = [&](auto zero, auto values) {
    packed.elements = values.size();
    packed.in_range = Pack<decltype(zero)>(values, packed.bytes);
  };
  switch (dtype) {
    case DType::kBool:
      pack(uint8_t{0}, contents.bools);
      break;
    case DType::kUInt8:
      pack(uint8_t{0}, contents.uints);
      break;
    case DType::kInt8:
      pack(int8_t{0}, contents.ints);
      break;
    case DType::kInt16:
      pack(int16_t{0}, contents.ints);
      break;
    case DType::kInt32:
      pack(int32_t{0}, contents.ints);
      break;
    case DType::kInt64:
      pack(int64_t{0}, contents.int64s);
      break;
    case DType::kFloat32:
      pack(0.0F, contents.floats);
      break;
    case DType::kFloat64:
      pack(0.0, contents.doubles);
      break;
    default:
      packed.supported = false;  // FP16 and BF16 travel raw only
  }
  return packed;
}

size_t CountAll(const TypedContents& contents) {
  return contents.bools.size() + contents.ints.size() + contents.int64s.size() + contents.uints.size() +
         contents.uint64s.size() + contents.floats.size() + contents.doubles.size() +
         static_cast<size_t>(contents.byte_strings);
}

std::string Of(const std::string& input, const std::string& model) {
  return absl::StrCat("input '", input, "' for model '", model, "'");
}

absl::Status SizeMismatch(const RequestedInput& input, const std::string& model, int64_t expected, int64_t got) {
  return Invalid(
      absl::StrCat("input byte size mismatch for ", Of(input.name, model), ". Expected ", expected, ", got ", got));
}

// The tensor that an input brings, named still as in the request.
absl::StatusOr<HostTensor> ReadInput(const InferRequest& request, size_t index) {
  const RequestedInput& input = request.inputs[index];
  const std::optional<DType> dtype = DTypeOfDatatype(input.datatype);
  if (!dtype.has_value()) {
    return Invalid(
        absl::StrCat("datatype ", Quoted(input.datatype, 40), " of ", Of(input.name, request.model),
                     " has no torch tensor; use one of BOOL UINT8 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64"));
  }
  HostTensor tensor;
  tensor.dtype = *dtype;
  tensor.shape.assign(input.shape.begin(), input.shape.end());
  const int64_t elements = format::ElementCount(tensor.shape);
  const int64_t element_bytes = format::ElementBytes(*dtype);
  if (elements < 0 || elements > std::numeric_limits<int64_t>::max() / element_bytes) {
    return Invalid(absl::StrCat("unexpected shape for ", Of(input.name, request.model), ": [",
                                absl::StrJoin(input.shape, ","), "] is no shape"));
  }
  const int64_t expected = elements * element_bytes;
  if (!request.raw.empty()) {
    tensor.bytes = request.raw[index];
    if (static_cast<int64_t>(tensor.bytes.size()) != expected) {
      return SizeMismatch(input, request.model, expected, static_cast<int64_t>(tensor.bytes.size()));
    }
    return tensor;
  }
  if (!input.contents.has_value() && elements > 0) {
    return Invalid(absl::StrCat("unable to find data for input tensor '", input.name, "' for model '", request.model,
                                "' in request."));
  }
  const TypedContents contents = input.contents.value_or(TypedContents{});
  auto packed = std::make_shared<Packed>(PackTyped(*dtype, contents));
  if (!packed->supported) {
    return Invalid(absl::StrCat("datatype ", input.datatype, " of ", Of(input.name, request.model),
                                " travels in raw_input_contents only"));
  }
  if (packed->elements != CountAll(contents)) {
    return Invalid(absl::StrCat("contents of ", Of(input.name, request.model),
                                " has values in a field that does not belong to ", input.datatype));
  }
  if (!packed->in_range) {
    return Invalid(absl::StrCat("contents of ", Of(input.name, request.model), " has a value that ", input.datatype,
                                " cannot hold"));
  }
  if (static_cast<int64_t>(packed->elements) != elements) {
    return SizeMismatch(input, request.model, expected, static_cast<int64_t>(packed->elements) * element_bytes);
  }
  tensor.bytes = packed->bytes;
  tensor.owner = packed;
  return tensor;
}

absl::Status CheckData(const InferRequest& request) {
  for (const RequestedInput& input : request.inputs) {
    if (input.shared_memory) {
      return MakeError(Reason::NOT_IMPLEMENTED, absl::StrCat(Of(input.name, request.model),
                                                             " is in shared memory; send raw_input_contents instead"));
    }
    if (!request.raw.empty() && input.contents.has_value()) {
      return Invalid(absl::StrCat("contents field must not be specified when using raw_input_contents for '",
                                  input.name, "' for model '", request.model, "'"));
    }
  }
  if (!request.raw.empty() && request.raw.size() != request.inputs.size()) {
    return Invalid(absl::StrCat("raw_input_contents has ", request.raw.size(), " entries for ", request.inputs.size(),
                                " inputs of model '", request.model, "'; give one for each, in order"));
  }
  return absl::OkStatus();
}

// Triton's sentence for too few inputs.
absl::Status MissingInputs(const InferRequest& request, size_t expected, const std::vector<std::string>& missing) {
  std::vector<std::string> got;
  for (const RequestedInput& input : request.inputs) got.push_back(input.name);
  return Invalid(absl::StrCat("expected ", expected, " inputs but got ", request.inputs.size(), " inputs for model '",
                              request.model, "'. Got input(s) ", got.empty() ? "[]" : QuotedList(got),
                              ", but missing required input(s) ", QuotedList(missing),
                              ". Please provide all required input(s)."));
}

}  // namespace

absl::StatusOr<std::vector<HostTensor>> BindInputs(const InferRequest& request, const ModelSignature& signature) {
  SCONCE_RETURN_IF_ERROR(CheckData(request));
  std::vector<std::optional<HostTensor>> bound(signature.inputs.size());
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const std::string& name = request.inputs[i].name;
    const int argument = FindArgument(name, signature);
    if (argument < 0) {
      std::vector<std::string> known;
      for (const ModelArgument& input : signature.inputs) known.push_back(input.name);
      return Invalid(absl::StrCat("unexpected inference input ", Quoted(name), " for model '", request.model,
                                  "'; forward() takes ", known.empty() ? "nothing" : QuotedList(known)));
    }
    if (bound[static_cast<size_t>(argument)].has_value()) {
      return Invalid(absl::StrCat("input '", name, "' for model '", request.model, "' is given twice"));
    }
    SCONCE_ASSIGN_OR_RETURN(bound[static_cast<size_t>(argument)], ReadInput(request, i));
  }
  std::vector<std::string> missing;
  size_t required = 0;
  std::vector<HostTensor> inputs;
  for (size_t i = 0; i < bound.size(); ++i) {
    required += signature.inputs[i].required ? 1 : 0;
    if (bound[i].has_value()) {
      bound[i]->name = signature.inputs[i].name;
      inputs.push_back(*std::move(bound[i]));
    } else if (signature.inputs[i].required) {
      missing.push_back(signature.inputs[i].name);
    }
  }
  if (!missing.empty()) return MissingInputs(request, required, missing);
  return inputs;
}

absl::StatusOr<std::vector<HostTensor>> SelectOutputs(const std::string& model, const std::vector<std::string>& names,
                                                      std::vector<HostTensor> outputs) {
  if (names.empty()) return outputs;
  std::vector<HostTensor> selected;
  for (const std::string& name : names) {
    const auto found =
        std::find_if(outputs.begin(), outputs.end(), [&](const HostTensor& output) { return output.name == name; });
    if (found == outputs.end()) {
      std::vector<std::string> known;
      for (const HostTensor& output : outputs) known.push_back(output.name);
      return Invalid(absl::StrCat("unexpected inference output ", Quoted(name), " for model '", model, "'; it gave ",
                                  known.empty() ? "none" : QuotedList(known)));
    }
    selected.push_back(*found);
  }
  return selected;
}

}  // namespace sconce::inference
