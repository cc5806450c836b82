#include "server/torch_runtime/tensor_bridge.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"

namespace sconce::torch_runtime {
namespace {

using format::DType;

constexpr std::pair<DType, at::ScalarType> kTypes[] = {
    {DType::kFloat32, at::kFloat},
    {DType::kFloat64, at::kDouble},
    {DType::kFloat16, at::kHalf},
    {DType::kBFloat16, at::kBFloat16},
    {DType::kInt64, at::kLong},
    {DType::kInt32, at::kInt},
    {DType::kInt16, at::kShort},
    {DType::kInt8, at::kChar},
    {DType::kUInt8, at::kByte},
    {DType::kBool, at::kBool},
    {DType::kComplex64, at::kComplexFloat},
    {DType::kComplex128, at::kComplexDouble},
};

}  // namespace

std::optional<at::ScalarType> ToScalarType(DType dtype) {
  for (const auto& [ours, theirs] : kTypes) {
    if (ours == dtype) return theirs;
  }
  return std::nullopt;
}

std::optional<DType> ToDType(at::ScalarType type) {
  for (const auto& [ours, theirs] : kTypes) {
    if (theirs == type && !at::isComplexType(type)) return ours;
  }
  return std::nullopt;
}

at::Tensor ViewOf(const format::TensorView& view, const PrivateBytes& storage) {
  const at::TensorOptions options = at::TensorOptions(*ToScalarType(view.dtype)).device(at::kCPU);
  const std::vector<int64_t> sizes(view.shape.begin(), view.shape.end());
  const std::vector<int64_t> strides(view.stride.begin(), view.stride.end());
  if (storage.data == nullptr) return at::empty_strided(sizes, strides, options);  // no bytes: an empty tensor
  uint8_t* const data = storage.data + view.offset * format::ElementBytes(view.dtype);
  return at::from_blob(
      data, sizes, strides, [owner = storage.owner](void*) {}, options);
}

absl::StatusOr<at::Tensor> InputTensor(const worker::Tensor& input, const std::shared_ptr<const void>& owner) {
  const std::optional<at::ScalarType> type = ToScalarType(input.dtype);
  if (!type.has_value()) {
    return MakeError(Reason::MODEL_INPUT_INVALID,
                     absl::StrCat("input '", input.name, "' has dtype ", format::DTypeName(input.dtype),
                                  ", which models cannot take; convert it"));
  }
  const at::TensorOptions options = at::TensorOptions(*type).device(at::kCPU);
  const std::vector<int64_t> sizes(input.shape.begin(), input.shape.end());
  if (input.bytes.empty()) return at::empty(sizes, options);
  return at::from_blob(
      const_cast<uint8_t*>(input.bytes.data()), sizes, [owner](void*) {}, options);
}

absl::StatusOr<worker::Tensor> OutputTensor(const std::string& name, const at::Tensor& tensor, at::Tensor& host) {
  const std::optional<DType> dtype = tensor.defined() ? ToDType(tensor.scalar_type()) : std::nullopt;
  if (!dtype.has_value() || tensor.layout() != at::kStrided) {
    return MakeError(Reason::MODEL_FAILED,
                     absl::StrCat("output '", name,
                                  "' is no plain tensor of integers, floats or bools, which is what "
                                  "an answer can carry; let forward() convert it"));
  }
  host = tensor.detach().resolve_neg().to(at::kCPU).contiguous();
  worker::Tensor output;
  output.name = name;
  output.dtype = *dtype;
  output.shape.assign(host.sizes().begin(), host.sizes().end());
  output.bytes = ByteSpan(static_cast<const uint8_t*>(host.data_ptr()), static_cast<size_t>(host.nbytes()));
  return output;
}

std::string SizeText(at::IntArrayRef sizes) {
  return absl::StrCat("torch.Size([", absl::StrJoin(sizes, ", "), "])");
}

}  // namespace sconce::torch_runtime
