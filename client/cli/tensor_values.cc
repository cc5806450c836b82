#include "client/cli/tensor_values.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/dtype.h"

namespace sconce::cli {
namespace {

struct DatatypeRow {
  format::DType dtype;
  absl::string_view name;
};

constexpr DatatypeRow kDatatypes[] = {
    {format::DType::kBool, "BOOL"},     {format::DType::kUInt8, "UINT8"},   {format::DType::kInt8, "INT8"},
    {format::DType::kInt16, "INT16"},   {format::DType::kInt32, "INT32"},   {format::DType::kInt64, "INT64"},
    {format::DType::kUInt16, "UINT16"}, {format::DType::kUInt32, "UINT32"}, {format::DType::kUInt64, "UINT64"},
    {format::DType::kFloat16, "FP16"},  {format::DType::kFloat32, "FP32"},  {format::DType::kFloat64, "FP64"},
    {format::DType::kBFloat16, "BF16"}};

template <typename T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float HalfToFloat(uint16_t half) {
  const int exponent = (half >> 10) & 0x1F;
  const int fraction = half & 0x3FF;
  const float magnitude = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                          : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                          : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

std::string FloatText(double value, int digits) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return absl::StrFormat("%.*g", digits, value);
}

std::string ElementText(format::DType dtype, const char* bytes) {
  switch (dtype) {
    case format::DType::kBool:
      return *bytes != 0 ? "true" : "false";
    case format::DType::kUInt8:
      return absl::StrCat(static_cast<int>(Load<uint8_t>(bytes)));
    case format::DType::kInt8:
      return absl::StrCat(static_cast<int>(Load<int8_t>(bytes)));
    case format::DType::kInt16:
      return absl::StrCat(Load<int16_t>(bytes));
    case format::DType::kInt32:
      return absl::StrCat(Load<int32_t>(bytes));
    case format::DType::kInt64:
      return absl::StrCat(Load<int64_t>(bytes));
    case format::DType::kUInt16:
      return absl::StrCat(Load<uint16_t>(bytes));
    case format::DType::kUInt32:
      return absl::StrCat(Load<uint32_t>(bytes));
    case format::DType::kUInt64:
      return absl::StrCat(Load<uint64_t>(bytes));
    case format::DType::kFloat16:
      return FloatText(HalfToFloat(Load<uint16_t>(bytes)), 5);
    case format::DType::kBFloat16: {
      const uint32_t bits = static_cast<uint32_t>(Load<uint16_t>(bytes)) << 16;
      float value;
      std::memcpy(&value, &bits, sizeof value);
      return FloatText(static_cast<double>(value), 4);
    }
    case format::DType::kFloat32:
      return FloatText(static_cast<double>(Load<float>(bytes)), 9);
    default:
      return FloatText(Load<double>(bytes), 17);
  }
}

}  // namespace

std::string ContiguousBytes(const format::TensorView& view, ByteSpan storage) {
  const int64_t element = format::ElementBytes(view.dtype);
  const int64_t count = format::ElementCount(view.shape);
  std::string out;
  out.reserve(static_cast<size_t>(count * element));
  std::vector<int64_t> index(view.shape.size(), 0);
  int64_t position = view.offset;
  for (int64_t i = 0; i < count; ++i) {
    out.append(reinterpret_cast<const char*>(storage.data()) + position * element, static_cast<size_t>(element));
    for (size_t d = index.size(); d-- > 0;) {  // to the next element, the last dimension first
      position += view.stride[d];
      if (++index[d] < view.shape[d]) break;
      position -= view.stride[d] * view.shape[d];
      index[d] = 0;
    }
  }
  return out;
}

absl::StatusOr<std::string> ProtocolDatatype(format::DType dtype) {
  for (const DatatypeRow& row : kDatatypes) {
    if (row.dtype == dtype) return std::string(row.name);
  }
  return MakeError(Reason::ARGUMENT_INVALID,
                   absl::StrCat("the inference protocol has no datatype for ", format::DTypeName(dtype)));
}

absl::StatusOr<std::vector<std::string>> ElementTexts(absl::string_view datatype, absl::string_view raw) {
  for (const DatatypeRow& row : kDatatypes) {
    if (row.name != datatype) continue;
    const auto element = static_cast<size_t>(format::ElementBytes(row.dtype));
    if (raw.size() % element != 0) break;
    std::vector<std::string> texts;
    for (size_t i = 0; i < raw.size(); i += element) texts.push_back(ElementText(row.dtype, raw.data() + i));
    return texts;
  }
  return MakeError(Reason::MODEL_INPUT_INVALID,
                   absl::StrCat("cannot show ", raw.size(), " bytes of datatype ", datatype));
}

std::string RenderNested(const std::vector<int64_t>& shape, const std::vector<std::string>& elements, size_t limit) {
  if (shape.empty()) return elements.empty() ? "" : elements[0];
  std::string out(shape.size(), '[');
  const size_t shown = std::min(limit, elements.size());
  for (size_t i = 0; i < shown; ++i) {
    size_t closed = 0;  // how many dimensions begin anew at element i
    int64_t block = 1;
    for (size_t d = shape.size(); d-- > 1 && i > 0;) {
      block *= shape[d];
      if (static_cast<int64_t>(i) % block != 0) break;
      ++closed;
    }
    if (i > 0)
      absl::StrAppend(&out, std::string(closed, ']'), closed > 0 ? ",\n" : ", ",
                      closed > 0 ? std::string(shape.size() - closed, ' ') : "", std::string(closed, '['));
    out += elements[i];
  }
  if (shown < elements.size()) return absl::StrCat(out, ", ...  (", elements.size() - shown, " more)");
  return out + std::string(shape.size(), ']');
}

}  // namespace sconce::cli
