#include "storage/format/number.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "storage/format/numpy_dtype.h"

namespace sconce::format {
namespace {

Number Real(double value) {
  Number number;
  number.real = value;
  return number;
}

// Little-endian; at most eight bytes.
std::optional<Number> Integer(absl::string_view bytes, bool is_signed) {
  uint64_t value = is_signed && (static_cast<uint8_t>(bytes.back()) & 0x80) != 0 ? ~uint64_t{0} : 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  if (!is_signed && value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  Number number;
  number.is_integer = true;
  number.integer = static_cast<int64_t>(value);
  number.real = static_cast<double>(number.integer);
  return number;
}

template <typename Float, typename Bits>
double Ieee(absl::string_view bytes) {
  Bits bits = 0;
  for (size_t i = bytes.size(); i-- > 0;) bits = static_cast<Bits>(bits << 8 | static_cast<uint8_t>(bytes[i]));
  Float value;
  static_assert(sizeof(value) == sizeof(bits));
  std::memcpy(&value, &bits, sizeof(value));
  return static_cast<double>(value);
}

// IEEE half precision: 1 sign, 5 exponent, 10 fraction bits.
double Half(absl::string_view bytes) {
  const int bits = static_cast<uint8_t>(bytes[0]) | static_cast<uint8_t>(bytes[1]) << 8;
  const int exponent = bits >> 10 & 0x1F;
  const int fraction = bits & 0x3FF;
  double magnitude = 0;
  if (exponent == 0x1F) {
    magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, -24);
  } else {
    magnitude = std::ldexp(fraction + 0x400, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// The upper half of a float32.
double BFloat(absl::string_view bytes) {
  const std::string widened = std::string(2, '\0') + std::string(bytes);
  return Ieee<float, uint32_t>(widened);
}

std::optional<Number> FloatOfSize(absl::string_view bytes) {
  switch (bytes.size()) {
    case 2:
      return Real(Half(bytes));
    case 4:
      return Real(Ieee<float, uint32_t>(bytes));
    case 8:
      return Real(Ieee<double, uint64_t>(bytes));
    default:
      return std::nullopt;
  }
}

std::optional<Number> TensorNumber(const Manifest& manifest, const TensorView& view) {
  if (view.storage == kNoIndex || ElementCount(view.shape) != 1) return std::nullopt;
  const Storage& storage = manifest.storages[view.storage];
  const int64_t size = ElementBytes(view.dtype);
  if (storage.inline_bytes.empty()) return std::nullopt;
  std::optional<Number> number =
      ElementNumber(view.dtype, absl::string_view(storage.inline_bytes)
                                    .substr(static_cast<size_t>(view.offset * size), static_cast<size_t>(size)));
  if (number.has_value() && view.negative) {
    if (number->is_integer && number->integer == std::numeric_limits<int64_t>::min()) return std::nullopt;
    number->integer = -number->integer;
    number->real = -number->real;
  }
  return number;
}

}  // namespace

std::optional<Number> ElementNumber(DType dtype, absl::string_view bytes) {
  if (static_cast<int64_t>(bytes.size()) != ElementBytes(dtype)) return std::nullopt;
  switch (dtype) {
    case DType::kFloat16:
    case DType::kFloat32:
    case DType::kFloat64:
      return FloatOfSize(bytes);
    case DType::kBFloat16:
      return Real(BFloat(bytes));
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
    case DType::kInt64:
      return Integer(bytes, /*is_signed=*/true);
    case DType::kUInt8:
    case DType::kUInt16:
    case DType::kUInt32:
    case DType::kUInt64:
      return Integer(bytes, /*is_signed=*/false);
    default:
      return std::nullopt;
  }
}

std::optional<Number> NumpyNumber(absl::string_view dtype, absl::string_view bytes) {
  const std::optional<NumpyDtype> parsed = ParseNumpyDtype(dtype);
  if (!parsed.has_value() || static_cast<int64_t>(bytes.size()) != parsed->item_bytes || bytes.empty())
    return std::nullopt;
  std::string little(bytes);
  if (parsed->byte_order == '>') std::reverse(little.begin(), little.end());
  if (parsed->kind == 'f') return FloatOfSize(little);
  if (parsed->kind == 'i' || parsed->kind == 'u') return Integer(little, parsed->kind == 'i');
  return std::nullopt;
}

std::optional<Number> NumberOf(const Manifest& manifest, NodeIndex index) {
  const Node* node = &manifest.nodes[index];
  if (node->kind == NodeKind::kParameter) node = &manifest.nodes[node->children[0]];
  switch (node->kind) {
    case NodeKind::kInt: {
      if (!node->text.empty()) return std::nullopt;
      Number number;
      number.is_integer = true;
      number.integer = node->integer;
      number.real = static_cast<double>(node->integer);
      return number;
    }
    case NodeKind::kFloat:
      return Real(node->real);
    case NodeKind::kTensor:
      return TensorNumber(manifest, manifest.tensors[node->tensor]);
    case NodeKind::kNumpyScalar:
    case NodeKind::kNumpyArray: {
      const Node& data = manifest.nodes[node->children.back()];
      if (data.kind != NodeKind::kBytes) return std::nullopt;
      return NumpyNumber(manifest.nodes[node->children[0]].text, data.text);  // an array of one has an element's bytes
    }
    default:
      return std::nullopt;
  }
}

}  // namespace sconce::format
