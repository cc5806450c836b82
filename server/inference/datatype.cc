#include "server/inference/datatype.h"

#include <utility>

namespace sconce::inference {
namespace {

using format::DType;

constexpr std::pair<const char*, DType> kDatatypes[] = {
    {"BOOL", DType::kBool},    {"UINT8", DType::kUInt8},  {"INT8", DType::kInt8},    {"INT16", DType::kInt16},
    {"INT32", DType::kInt32},  {"INT64", DType::kInt64},  {"FP16", DType::kFloat16}, {"BF16", DType::kBFloat16},
    {"FP32", DType::kFloat32}, {"FP64", DType::kFloat64},
};

}  // namespace

std::optional<DType> DTypeOfDatatype(absl::string_view datatype) {
  for (const auto& [name, dtype] : kDatatypes) {
    if (datatype == name) return dtype;
  }
  return std::nullopt;
}

absl::string_view DatatypeOfDType(DType dtype) {
  for (const auto& [name, known] : kDatatypes) {
    if (known == dtype) return name;
  }
  return "";
}

}  // namespace sconce::inference
